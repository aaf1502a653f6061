import type { AnswerPart } from '../answer-parts.ts';
import { CallObject } from './call-object.ts';
import type { ToolFormat } from './format.ts';
import { ArgumentsObject } from './named-call.ts';
import { ScanningParser } from './scanning-parser.ts';

const marker = '[TOOL_CALLS]';
const argumentsMarker = '[ARGS]';

type State = 'text' | 'form' | 'object' | 'between' | 'name' | 'arguments';

/**
 * `[TOOL_CALLS] [{"name": …, "arguments": …}, …]` of Mistral's tokenizers up to v7, and `[TOOL_CALLS]name[ARGS]{…}` (with `[CALL_ID]…` perhaps)
 * of v11 and later, the marker in front of each call.
 */
class MistralParser extends ScanningParser<State> {
  #arguments: ArgumentsObject | undefined;

  constructor() {
    super('text');
  }

  protected advance(parts: AnswerPart[]): void {
    if (this.state === 'text') {
      if (this.takeText([marker], parts)) this.state = 'form';
    } else if (this.state === 'form') this.#choose();
    else if (this.state === 'object') {
      const ended = this.takeObject(parts);
      if (ended) this.state = ended === 'call' ? 'between' : 'text';
    } else if (this.state === 'between') this.#next();
    else if (this.state === 'name') this.#takeName(parts);
    else this.#takeArguments(parts);
  }

  protected pendingIsText(): boolean {
    return this.state === 'text' || this.state === 'name' || this.state === 'form';
  }

  /** Behind the marker: a list of objects, one object, or a name. */
  #choose(): void {
    this.pending = this.pending.trimStart();
    const first = this.pending[0];
    if (first === undefined) return;
    if (first === '[') this.pending = this.pending.slice(1);
    this.state = first === '[' ? 'between' : first === '{' ? 'object' : 'name';
    if (this.state === 'object') this.object = new CallObject(this.calls, () => true);
  }

  #next(): void {
    this.pending = this.pending.replace(/^[\s,]+/, '');
    const first = this.pending[0];
    if (first === undefined) return;
    if (first === '{') {
      this.state = 'object';
      this.object = new CallObject(this.calls, () => true);
    } else {
      if (first === ']') this.pending = this.pending.slice(1);
      this.state = 'text';
    }
  }

  #takeName(parts: AnswerPart[]): void {
    const place = this.pending.search(/\[ARGS\]|\{/);
    if (place < 0) return;
    const name = (this.pending.slice(0, place).split('[CALL_ID]', 1)[0] ?? '').trim();
    this.pending = this.pending.slice(place);
    parts.push({ kind: 'call', call: this.calls, name });
    this.#arguments = new ArgumentsObject(this.calls++);
    this.state = 'arguments';
  }

  #takeArguments(parts: AnswerPart[]): void {
    const value = this.#arguments as ArgumentsObject;
    const { taken, parts: more } = value.take(this.pending);
    this.pending = this.pending.slice(taken);
    parts.push(...more);
    if (value.done) this.state = 'text';
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
