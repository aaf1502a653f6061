import type { AnswerPart } from '../answer-parts.ts';
import { JsonValue } from './json-value.ts';

/** The arguments of a call whose name stands in front of them: one JSON object, told as it arrives; what surrounds it is skipped. */
export class ArgumentsObject {
  readonly #call: number;
  readonly #value = new JsonValue();
  #isBegun = false;

  constructor(call: number) {
    this.#call = call;
  }

  get done(): boolean {
    return this.#value.done;
  }

  /** @returns how many characters of `text` it took, and the part they make */
  take(text: string): { taken: number; parts: AnswerPart[] } {
    let from = 0;
    if (!this.#isBegun) {
      from = text.indexOf('{');
      if (from < 0) return { taken: text.length, parts: [] };
      this.#isBegun = true;
    }
    const taken = this.#value.take(text, from);
    const piece = text.slice(from, from + taken);
    return {
      taken: from + taken,
      parts: piece ? [{ kind: 'arguments', call: this.#call, text: piece }] : [],
    };
  }
}
