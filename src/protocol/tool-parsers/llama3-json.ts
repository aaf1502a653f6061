import type { AnswerPart, PartParser } from '../answer-parts.ts';
import { findMarker } from '../answer-parts.ts';
import { CallObject } from './call-object.ts';
import type { ToolFormat } from './format.ts';

const tag = '<|python_tag|>';

/**
 * `{"name": …, "parameters": …}` as the whole answer, several separated by `;`, perhaps behind `<|python_tag|>`: Llama 3.1 to 3.3. Without the
 * tag nothing marks a call, so an object counts as one only if it names a tool that was offered.
 */
class Llama3JsonParser implements PartParser {
  readonly #toolNames: ReadonlySet<string>;
  #state: 'start' | 'call' | 'between' | 'text' = 'start';
  #pending = '';
  #object: CallObject | undefined;
  #calls = 0;

  constructor(toolNames: ReadonlySet<string>) {
    this.#toolNames = toolNames;
  }

  push(text: string): AnswerPart[] {
    this.#pending += text;
    const parts: AnswerPart[] = [];
    for (let before = ''; this.#pending !== '' && before !== this.#state + this.#pending.length; ) {
      before = this.#state + this.#pending.length;
      if (this.#state === 'call') this.#takeCall(parts);
      else if (this.#state === 'text') this.#takeText(parts);
      else this.#seek();
    }
    return parts;
  }

  flush(): AnswerPart[] {
    const held = this.#object && !this.#object.announced ? this.#object.raw : '';
    const text = held + (this.#state === 'between' ? '' : this.#pending);
    this.#pending = '';
    return text === '' ? [] : [{ kind: 'text', text }];
  }

  /** At the start and between two calls: is the next thing a call? */
  #seek(): void {
    const skipped = /^[\s;,]*/.exec(this.#pending)?.[0].length ?? 0;
    const rest = this.#pending.slice(skipped);
    if (rest === '' || (tag.startsWith(rest) && rest !== tag)) return;
    if (rest.startsWith(tag)) this.#begin(rest.slice(tag.length));
    else if (rest.startsWith('{')) this.#begin(rest);
    else this.#state = 'text';
  }

  #begin(rest: string): void {
    this.#pending = rest;
    this.#state = 'call';
    this.#object = new CallObject(this.#calls, (name) => this.#toolNames.has(name));
  }

  #takeCall(parts: AnswerPart[]): void {
    const object = this.#object as CallObject;
    const taken = object.take(this.#pending, 0);
    this.#pending = this.#pending.slice(taken);
    parts.push(...object.parts());
    if (!object.done && !object.failed) return;
    this.#object = undefined;
    this.#state = object.announced ? 'between' : 'text';
    if (object.announced) this.#calls++;
    else parts.push({ kind: 'text', text: object.raw });
  }

  #takeText(parts: AnswerPart[]): void {
    const search = findMarker(this.#pending, [tag]);
    if (search.before !== '') parts.push({ kind: 'text', text: search.before });
    this.#pending = search.rest;
    if (search.found) this.#begin(search.rest);
  }
}

export const format: ToolFormat = {
  createParser: (toolNames) => new Llama3JsonParser(toolNames),
  usesSpecialTokens: true,
  guidedSyntax: () => ({
    between: '; ',
    begin: (name) => `{"name": ${JSON.stringify(name)}, "parameters": `,
    end: '}',
  }),
  callSyntax: '{"name": <name>, "parameters": <object>}',
};
