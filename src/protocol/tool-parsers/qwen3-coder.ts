import { type AnswerPart, findMarker } from '../answer-parts.ts';
import type { OfferedTools, ToolFormat } from './format.ts';
import { ScanningParser } from './scanning-parser.ts';
import { valueOfText } from './typed-value.ts';

const begin = '<tool_call>';
const end = '</tool_call>';
const functionBegin = '<function=';
const functionEnd = '</function>';
const parameterBegin = '<parameter=';
/** The model forgets the end of a parameter now and then; what must follow on a line of its own ends it, too. */
const valueEnds: readonly string[] = ['</parameter>', `\n${parameterBegin}`, `\n${functionEnd}`, `\n${end}`];

type State = 'text' | 'call' | 'name' | 'parameters' | 'key' | 'value' | 'end';

/**
 * `<tool_call><function=name><parameter=key>value</parameter>…</function></tool_call>`, values as plain text on lines of their own: Qwen 3
 * Coder. What a value is in JSON its tool's schema says. A parameter is told when its end is there.
 */
class Qwen3CoderParser extends ScanningParser<State> {
  readonly #tools: OfferedTools;
  #name = '';
  #key = '';
  #parameters = 0;

  constructor(tools: OfferedTools) {
    super('text');
    this.#tools = tools;
  }

  protected advance(parts: AnswerPart[]): void {
    if (this.state === 'text') {
      // The outer marker is left out now and then.
      const found = this.takeText([begin, functionBegin], parts);
      if (found) this.state = found === begin ? 'call' : 'name';
    } else if (this.state === 'call') this.#seekFunction(parts);
    else if (this.state === 'name') this.#takeName(parts);
    else if (this.state === 'parameters') this.#seekParameter(parts);
    else if (this.state === 'key') this.#takeKey();
    else if (this.state === 'value') this.#takeValue(parts);
    else {
      const found = this.skipTo([end, begin, functionBegin]);
      if (found) this.state = found === end ? 'text' : found === begin ? 'call' : 'name';
    }
  }

  protected pendingIsText(): boolean {
    return this.state === 'text';
  }

  #seekFunction(parts: AnswerPart[]): void {
    const rest = this.pending.trimStart();
    if (functionBegin.startsWith(rest) && rest !== functionBegin) return;
    if (rest.startsWith(functionBegin)) {
      this.pending = rest.slice(functionBegin.length);
      this.state = 'name';
    } else {
      parts.push({ kind: 'text', text: begin });
      this.state = 'text';
    }
  }

  #takeName(parts: AnswerPart[]): void {
    const name = this.#upToBracket();
    if (name === undefined) return;
    this.#name = name;
    this.#parameters = 0;
    parts.push({ kind: 'call', call: this.calls, name });
    this.state = 'parameters';
  }

  #seekParameter(parts: AnswerPart[]): void {
    const found = this.skipTo([parameterBegin, functionEnd, end]);
    if (found === parameterBegin) this.state = 'key';
    else if (found !== undefined) {
      parts.push({ kind: 'arguments', call: this.calls, text: this.#parameters === 0 ? '{}' : '}' });
      this.calls++;
      this.state = found === end ? 'text' : 'end';
    }
  }

  #takeKey(): void {
    const key = this.#upToBracket();
    if (key === undefined) return;
    this.#key = key;
    this.state = 'value';
  }

  #takeValue(parts: AnswerPart[]): void {
    const search = findMarker(this.pending, valueEnds);
    if (search.found === undefined) return;
    const text = search.before.replace(/^\n/, '').replace(/\n$/, '');
    const value = valueOfText(text, this.#tools.get(this.#name), this.#key);
    const opening = this.#parameters++ === 0 ? '{' : ', ';
    const member = `${opening}${JSON.stringify(this.#key)}: ${JSON.stringify(value)}`;
    parts.push({ kind: 'arguments', call: this.calls, text: member });
    // A marker of what follows stays.
    this.pending = search.found === valueEnds[0] ? search.rest : search.found + search.rest;
    this.state = 'parameters';
  }

  /** What stands before the next `>`; it is taken, too. */
  #upToBracket(): string | undefined {
    const at = this.pending.indexOf('>');
    if (at < 0) return undefined;
    const text = this.pending.slice(0, at).trim();
    this.pending = this.pending.slice(at + 1);
    return text;
  }
}

export const format: ToolFormat = {
  createParser: (tools) => new Qwen3CoderParser(tools),
  usesSpecialTokens: false,
  callSyntax: `${begin}${functionBegin}<name>>${parameterBegin}<key>><value></parameter>${functionEnd}${end}`,
};
