import { randomBytes } from 'node:crypto';
import type { AnswerPart, PartParser } from './answer-parts.ts';
import type { ReasoningFormat } from './reasoning/format.ts';
import type { OfferedTools, ToolFormat } from './tool-parsers/format.ts';

/** What a model's answers are made of beside text. */
export interface AnswerFormats {
  tools?: ToolFormat;
  reasoning?: ReasoningFormat;
}

/** How the answers to one chat are read: makes a parser for each of its choices. */
export interface AnswerReading {
  /** Whether the text must keep special tokens: they are markers. */
  keepsSpecialTokens: boolean;
  createParser(): PartParser;
  /** A new id for a call. */
  callId(): string;
}

/** What a request says of tools. */
export interface ToolChoice {
  /** Empty: calls are not looked for. */
  tools: OfferedTools;
  /** Whether one answer may call several. */
  isParallel: boolean;
}

/**
 * How to read the answers to a chat; undefined where they are all text.
 * @param prompt the rendered chat
 */
export function answerReading(
  formats: AnswerFormats,
  prompt: string,
  choice: ToolChoice,
): AnswerReading | undefined {
  const { reasoning } = formats;
  const tools = choice.tools.size > 0 ? formats.tools : undefined;
  if (!tools && !reasoning) return undefined;
  return {
    keepsSpecialTokens: tools?.usesSpecialTokens ?? false,
    createParser: () =>
      new AnswerParser(
        reasoning?.createParser(prompt),
        tools?.createParser(choice.tools),
        choice.isParallel ? Number.POSITIVE_INFINITY : 1,
      ),
    callId: () => {
      const random = randomBytes(12).toString('hex');
      return tools?.callIdLength ? random.slice(0, tools.callIdLength) : `call_${random}`;
    },
  };
}

/** Reasoning first, then calls in what is left; space around calls is no text. */
class AnswerParser implements PartParser {
  readonly #reasoning: PartParser | undefined;
  readonly #tools: PartParser | undefined;
  readonly #callsMax: number;
  #space = '';
  #hasCalls = false;

  constructor(reasoning: PartParser | undefined, tools: PartParser | undefined, callsMax: number) {
    this.#callsMax = callsMax;
    this.#reasoning = reasoning;
    this.#tools = tools;
  }

  push(text: string): AnswerPart[] {
    return this.#withTools(this.#reasoning ? this.#reasoning.push(text) : [{ kind: 'text', text }]);
  }

  flush(): AnswerPart[] {
    const parts = this.#withTools(this.#reasoning?.flush() ?? []);
    if (!this.#tools) return parts;
    parts.push(...this.#tidied(this.#tools.flush()));
    if (this.#space !== '' && !this.#hasCalls) parts.push({ kind: 'text', text: this.#space });
    return parts;
  }

  #withTools(parts: AnswerPart[]): AnswerPart[] {
    const tools = this.#tools;
    if (!tools) return parts;
    return parts.flatMap((part) => (part.kind === 'text' ? this.#tidied(tools.push(part.text)) : [part]));
  }

  /** Holds space at the end of text back until more text follows it. */
  #tidied(parts: AnswerPart[]): AnswerPart[] {
    const tidied: AnswerPart[] = [];
    for (const part of parts) {
      if (part.kind !== 'text') {
        if (part.kind === 'call') this.#hasCalls = true;
        this.#space = '';
        if (part.kind === 'reasoning' || part.call < this.#callsMax) tidied.push(part);
        continue;
      }
      const text = this.#space + part.text;
      const kept = text.trimEnd();
      this.#space = text.slice(kept.length);
      if (kept !== '') tidied.push({ kind: 'text', text: kept });
    }
    return tidied;
  }
}
