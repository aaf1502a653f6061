import type { AnswerPart, PartParser } from '../answer-parts.ts';
import type { OfferedTools, ToolFormat } from './format.ts';
import { readPythonCall } from './python-call.ts';

const openings: readonly string[] = ['<|python_start|>', '<|python_tag|>'];
const closing = '<|python_end|>';
/** A call that is longer is text: it is read again with each piece that arrives. UTF-16 units. */
export const pythonCallLengthMax = 65_536;

/**
 * `[name(key=value), …]` as the whole answer, in Python's syntax: Llama 3.2's small models, Llama 4, ToolACE. Nothing else marks a call, so only tools that were
 * offered count. A call is told when its closing bracket is there.
 */
class PythonicParser implements PartParser {
  readonly #tools: OfferedTools;
  #state: 'start' | 'list' | 'text' | 'over' = 'start';
  #pending = '';
  #calls = 0;

  constructor(tools: OfferedTools) {
    this.#tools = tools;
  }

  push(text: string): AnswerPart[] {
    this.#pending += text;
    const parts: AnswerPart[] = [];
    if (this.#state === 'start') this.#seek();
    while (this.#state === 'list' && this.#takeCall(parts));
    if (this.#state === 'text') parts.push(...this.#rest());
    if (this.#state === 'over') this.#pending = '';
    return parts;
  }

  flush(): AnswerPart[] {
    return this.#calls > 0 ? [] : this.#rest();
  }

  #rest(): AnswerPart[] {
    const text = this.#pending;
    this.#pending = '';
    return text === '' ? [] : [{ kind: 'text', text }];
  }

  #seek(): void {
    let rest = this.#pending.trimStart();
    for (const opening of openings) {
      if (rest.startsWith(opening)) rest = rest.slice(opening.length).trimStart();
      else if (rest !== '' && opening.startsWith(rest)) return;
    }
    if (rest === '') return;
    this.#state = rest.startsWith('[') ? 'list' : 'text';
  }

  /** @returns whether there may be another one */
  #takeCall(parts: AnswerPart[]): boolean {
    const lead = /^(?:\s|<\|python_start\|>|<\|python_tag\|>)*\[|^[\s,]+/.exec(this.#pending)?.[0] ?? '';
    const rest = this.#pending.slice(lead.length).trimStart();
    if (this.#calls > 0 && /^[\]<]/.test(rest)) {
      this.#state = 'over';
      return false;
    }
    const call = rest.length > pythonCallLengthMax ? undefined : readPythonCall(rest);
    if (call === 'unfinished') return false;
    if (call === undefined || !this.#tools.has(call.name)) {
      this.#state = this.#calls > 0 ? 'over' : 'text';
      return false;
    }
    parts.push({ kind: 'call', call: this.#calls, name: call.name });
    parts.push({ kind: 'arguments', call: this.#calls, text: call.arguments });
    this.#calls++;
    this.#pending = rest.slice(call.length).replace(closing, '');
    return true;
  }
}

export const format: ToolFormat = {
  createParser: (tools) => new PythonicParser(tools),
  usesSpecialTokens: true,
  guidedSyntax: () => ({
    before: '[',
    after: ']',
    between: ', ',
    begin: (name) => `${name}(`,
    end: ')',
    writesArguments: 'keywords',
  }),
  callSyntax: '[<name>(<parameter>=<value>, …)]',
};
