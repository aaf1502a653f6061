import type { AnswerPart, PartParser } from '../answer-parts.ts';
import { findMarker } from '../answer-parts.ts';
import { CallObject } from './call-object.ts';
import type { ToolFormat } from './format.ts';
import { ArgumentsObject } from './named-call.ts';

const marker = '[TOOL_CALLS]';
const argumentsMarker = '[ARGS]';

type State = 'text' | 'form' | 'object' | 'between' | 'name' | 'arguments';

/**
 * `[TOOL_CALLS] [{"name": …, "arguments": …}, …]` of Mistral's tokenizers up to v7, and `[TOOL_CALLS]name[ARGS]{…}` (with `[CALL_ID]…` perhaps)
 * of v11 and later, the marker in front of each call.
 */
class MistralParser implements PartParser {
  #state: State = 'text';
  #pending = '';
  #object: CallObject | undefined;
  #arguments: ArgumentsObject | undefined;
  #calls = 0;

  push(text: string): AnswerPart[] {
    this.#pending += text;
    const parts: AnswerPart[] = [];
    for (let before = ''; this.#pending !== '' && before !== this.#state + this.#pending.length; ) {
      before = this.#state + this.#pending.length;
      this.#advance(parts);
    }
    return parts;
  }

  flush(): AnswerPart[] {
    const isText = this.#state === 'text' || this.#state === 'name' || this.#state === 'form';
    const held = this.#object && !this.#object.announced ? this.#object.raw : '';
    const text = held + (isText ? this.#pending : '');
    this.#pending = '';
    return text === '' ? [] : [{ kind: 'text', text }];
  }

  #advance(parts: AnswerPart[]): void {
    if (this.#state === 'text') this.#takeText(parts);
    else if (this.#state === 'form') this.#choose();
    else if (this.#state === 'object') this.#takeObject(parts);
    else if (this.#state === 'between') this.#next();
    else if (this.#state === 'name') this.#takeName(parts);
    else this.#takeArguments(parts);
  }

  #takeText(parts: AnswerPart[]): void {
    const search = findMarker(this.#pending, [marker]);
    if (search.before !== '') parts.push({ kind: 'text', text: search.before });
    this.#pending = search.rest;
    if (search.found) this.#state = 'form';
  }

  /** Behind the marker: a list of objects, one object, or a name. */
  #choose(): void {
    this.#pending = this.#pending.trimStart();
    const first = this.#pending[0];
    if (first === undefined) return;
    if (first === '[') this.#pending = this.#pending.slice(1);
    this.#state = first === '[' ? 'between' : first === '{' ? 'object' : 'name';
    if (this.#state === 'object') this.#object = new CallObject(this.#calls, () => true);
  }

  #next(): void {
    this.#pending = this.#pending.replace(/^[\s,]+/, '');
    const first = this.#pending[0];
    if (first === undefined) return;
    if (first === '{') {
      this.#state = 'object';
      this.#object = new CallObject(this.#calls, () => true);
    } else {
      if (first === ']') this.#pending = this.#pending.slice(1);
      this.#state = 'text';
    }
  }

  #takeObject(parts: AnswerPart[]): void {
    const object = this.#object as CallObject;
    this.#pending = this.#pending.slice(object.take(this.#pending, 0));
    parts.push(...object.parts());
    if (!object.done && !object.failed) return;
    this.#object = undefined;
    this.#state = object.announced ? 'between' : 'text';
    if (object.announced) this.#calls++;
    else parts.push({ kind: 'text', text: object.raw });
  }

  #takeName(parts: AnswerPart[]): void {
    const place = this.#pending.search(/\[ARGS\]|\{/);
    if (place < 0) return;
    const name = (this.#pending.slice(0, place).split('[CALL_ID]', 1)[0] ?? '').trim();
    this.#pending = this.#pending.slice(place);
    parts.push({ kind: 'call', call: this.#calls, name });
    this.#arguments = new ArgumentsObject(this.#calls++);
    this.#state = 'arguments';
  }

  #takeArguments(parts: AnswerPart[]): void {
    const value = this.#arguments as ArgumentsObject;
    const { taken, parts: more } = value.take(this.#pending);
    this.#pending = this.#pending.slice(taken);
    parts.push(...more);
    if (value.done) this.#state = 'text';
  }
}

export const format: ToolFormat = {
  createParser: () => new MistralParser(),
  usesSpecialTokens: true,
  guidedSyntax: ({ hasToken }) =>
    hasToken(argumentsMarker)
      ? {
          between: '',
          begin: (name) => `${marker}${name}${argumentsMarker}`,
          end: '',
          specialTokens: [marker, argumentsMarker],
        }
      : {
          before: `${marker} [`,
          after: ']',
          between: ', ',
          begin: (name) => `{"name": ${JSON.stringify(name)}, "arguments": `,
          end: '}',
          specialTokens: [marker],
        },
  callSyntax: `${marker}[{"name": <name>, "arguments": <object>}]`,
  callIdLength: 9,
};
