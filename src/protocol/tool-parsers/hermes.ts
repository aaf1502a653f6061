import type { AnswerPart, PartParser } from '../answer-parts.ts';
import { findMarker } from '../answer-parts.ts';
import { CallObject } from './call-object.ts';
import type { ToolFormat } from './format.ts';

const start = '<tool_call>';
const end = '</tool_call>';

/** `<tool_call>{"name": …, "arguments": …}</tool_call>`, any number of them: Hermes 2 Pro, Qwen 2.5 and 3. */
class HermesParser implements PartParser {
  #state: 'text' | 'call' | 'end' = 'text';
  #pending = '';
  #object: CallObject | undefined;
  #calls = 0;

  push(text: string): AnswerPart[] {
    this.#pending += text;
    const parts: AnswerPart[] = [];
    for (let before = ''; this.#pending !== '' && before !== this.#state + this.#pending.length; ) {
      before = this.#state + this.#pending.length;
      if (this.#state === 'call') this.#takeCall(parts);
      else this.#seek(parts);
    }
    return parts;
  }

  flush(): AnswerPart[] {
    const held = this.#object && !this.#object.announced ? start + this.#object.raw : '';
    const text = held + (this.#state === 'text' ? this.#pending : '');
    this.#pending = '';
    return text === '' ? [] : [{ kind: 'text', text }];
  }

  #seek(parts: AnswerPart[]): void {
    // Some models leave the end out between two calls.
    const search = findMarker(this.#pending, this.#state === 'text' ? [start] : [end, start]);
    // What stands between a call and its end is no text.
    if (search.before !== '' && this.#state === 'text') parts.push({ kind: 'text', text: search.before });
    this.#pending = search.rest;
    if (search.found === end) this.#state = 'text';
    if (search.found !== start) return;
    this.#state = 'call';
    // The markers say that it is a call, whatever it calls: the client shall see a name that does not exist.
    this.#object = new CallObject(this.#calls, () => true);
  }

  #takeCall(parts: AnswerPart[]): void {
    const object = this.#object as CallObject;
    const taken = object.take(this.#pending, 0);
    this.#pending = this.#pending.slice(taken);
    parts.push(...object.parts());
    if (!object.done && !object.failed) return;
    this.#object = undefined;
    if (object.announced) {
      this.#calls++;
      this.#state = 'end';
    } else {
      parts.push({ kind: 'text', text: start + object.raw });
      this.#state = 'text';
    }
  }
}

export const format: ToolFormat = {
  createParser: () => new HermesParser(),
  usesSpecialTokens: false,
  guidedSyntax: () => ({
    between: '\n',
    begin: (name) => `${start}\n{"name": ${JSON.stringify(name)}, "arguments": `,
    end: `}\n${end}`,
    trigger: start,
  }),
  callSyntax: `${start}{"name": <name>, "arguments": <object>}${end}`,
};
