import type { AnswerPart } from '../answer-parts.ts';
import { CallObject } from './call-object.ts';
import type { OfferedTools, ToolFormat } from './format.ts';
import { ScanningParser } from './scanning-parser.ts';

const tag = '<|python_tag|>';

/**
 * `{"name": …, "parameters": …}` as the whole answer, several separated by `;`, perhaps behind `<|python_tag|>`: Llama 3.1 to 3.3. Without the
 * tag nothing marks a call, so an object counts as one only if it names a tool that was offered.
 */
class Llama3JsonParser extends ScanningParser<'start' | 'call' | 'between' | 'text'> {
  readonly #tools: OfferedTools;

  constructor(tools: OfferedTools) {
    super('start');
    this.#tools = tools;
  }

  protected advance(parts: AnswerPart[]): void {
    if (this.state === 'call') {
      const ended = this.takeObject(parts);
      if (ended) this.state = ended === 'call' ? 'between' : 'text';
    } else if (this.state === 'text') {
      if (this.takeText([tag], parts)) this.#begin(this.pending);
    } else this.#seek();
  }

  protected pendingIsText(): boolean {
    return this.state !== 'between';
  }

  /** At the start and between two calls: is the next thing a call? */
  #seek(): void {
    const skipped = /^[\s;,]*/.exec(this.pending)?.[0].length ?? 0;
    const rest = this.pending.slice(skipped);
    if (rest === '' || (tag.startsWith(rest) && rest !== tag)) return;
    if (rest.startsWith(tag)) this.#begin(rest.slice(tag.length));
    else if (rest.startsWith('{')) this.#begin(rest);
    else this.state = 'text';
  }

  #begin(rest: string): void {
    this.pending = rest;
    this.state = 'call';
    this.object = new CallObject(this.calls, (name) => this.#tools.has(name));
  }
}

export const format: ToolFormat = {
  createParser: (tools) => new Llama3JsonParser(tools),
  usesSpecialTokens: true,
  guidedSyntax: () => ({
    between: '; ',
    begin: (name) => `{"name": ${JSON.stringify(name)}, "parameters": `,
    end: '}',
  }),
  callSyntax: '{"name": <name>, "parameters": <object>}',
};
