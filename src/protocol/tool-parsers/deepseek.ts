import { type AnswerPart, findMarker } from '../answer-parts.ts';
import type { ToolFormat } from './format.ts';
import { ArgumentsObject } from './named-call.ts';
import { ScanningParser } from './scanning-parser.ts';

const allBegin = '<｜tool▁calls▁begin｜>';
const allEnd = '<｜tool▁calls▁end｜>';
const begin = '<｜tool▁call▁begin｜>';
const separator = '<｜tool▁sep｜>';
const end = '<｜tool▁call▁end｜>';

/**
 * DeepSeek's two forms between its begin and end tokens: V3 and R1 write `function`, a separator, the name, a line break and the arguments
 * in a code fence; V3.1 writes the name, the separator and the arguments.
 */
class DeepSeekParser extends ScanningParser<'text' | 'calls' | 'head' | 'name' | 'arguments'> {
  #arguments: ArgumentsObject | undefined;

  constructor() {
    super('text');
  }

  protected advance(parts: AnswerPart[]): void {
    if (this.state === 'text') {
      const found = this.takeText([allBegin, begin], parts);
      if (found) this.state = found === begin ? 'head' : 'calls';
    } else if (this.state === 'calls') {
      const found = this.skipTo([begin, allEnd]);
      if (found) this.state = found === begin ? 'head' : 'text';
    } else if (this.state === 'head') this.#takeHead(parts);
    else if (this.state === 'name') this.#takeName(parts);
    else this.#takeArguments(parts);
  }

  protected pendingIsText(): boolean {
    return this.state === 'text';
  }

  /** Up to the separator: the name, or the word `function` in front of it. */
  #takeHead(parts: AnswerPart[]): void {
    const search = findMarker(this.pending, [separator]);
    if (!search.found) return;
    this.pending = search.rest;
    if (search.before.trim() === 'function') this.state = 'name';
    else this.#begin(search.before, parts);
  }

  #takeName(parts: AnswerPart[]): void {
    const lineEnd = this.pending.indexOf('\n');
    if (lineEnd < 0) return;
    const name = this.pending.slice(0, lineEnd);
    this.pending = this.pending.slice(lineEnd + 1);
    this.#begin(name, parts);
  }

  #begin(name: string, parts: AnswerPart[]): void {
    parts.push({ kind: 'call', call: this.calls, name: name.trim() });
    this.#arguments = new ArgumentsObject(this.calls++);
    this.state = 'arguments';
  }

  #takeArguments(parts: AnswerPart[]): void {
    const value = this.#arguments as ArgumentsObject;
    if (value.done) {
      if (this.skipTo([end])) this.state = 'calls';
      return;
    }
    const { taken, parts: more } = value.take(this.pending);
    this.pending = this.pending.slice(taken);
    parts.push(...more);
  }
}

export const format: ToolFormat = {
  createParser: () => new DeepSeekParser(),
  usesSpecialTokens: true,
  guidedSyntax: () => ({
    before: allBegin,
    after: allEnd,
    between: '',
    begin: (name) => `${begin}${name}${separator}`,
    end,
    specialTokens: [allBegin, allEnd, begin, separator, end],
  }),
  callSyntax: `${allBegin}${begin}<name>${separator}<object>${end}${allEnd}`,
};
