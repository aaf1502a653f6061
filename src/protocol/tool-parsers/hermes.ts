import type { AnswerPart } from '../answer-parts.ts';
import { CallObject } from './call-object.ts';
import type { ToolFormat } from './format.ts';
import { ScanningParser } from './scanning-parser.ts';

const start = '<tool_call>';
const end = '</tool_call>';

/** `<tool_call>{"name": …, "arguments": …}</tool_call>`, any number of them: Hermes 2 Pro, Qwen 2.5 and 3. */
class HermesParser extends ScanningParser<'text' | 'call' | 'end'> {
  protected override objectStart = start;

  constructor() {
    super('text');
  }

  protected advance(parts: AnswerPart[]): void {
    if (this.state === 'call') {
      const ended = this.takeObject(parts);
      if (ended) this.state = ended === 'call' ? 'end' : 'text';
      return;
    }
    // What stands between a call and its end is no text. Some models leave the end out between two calls.
    const found = this.state === 'text' ? this.takeText([start], parts) : this.skipTo([end, start]);
    if (found === end) this.state = 'text';
    if (found !== start) return;
    this.state = 'call';
    // The markers say that it is a call, whatever it calls: the client shall see a name that does not exist.
    this.object = new CallObject(this.calls, () => true);
  }

  protected pendingIsText(): boolean {
    return this.state === 'text';
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
