import type { NereidError } from '../../base/errors.ts';
import type { GenerationDelta, GenerationUsage } from '../../generation/generation.ts';
import type { AnswerReading } from '../answer-parser.ts';
import type { GatheredAnswer } from '../answering.ts';
import { type ContentBlock, ContentBlocks } from './blocks.ts';

/** What all parts of one answer carry. */
export interface MessageSettings {
  /** `msg_…` */
  id: string;
  /** The name the client used. */
  modelName: string;
  reading: AnswerReading | undefined;
}

/** How a message ended. */
export interface MessageEnd {
  stop_reason: 'end_turn' | 'max_tokens' | 'stop_sequence' | 'tool_use' | null;
  stop_sequence: string | null;
}

/** A message that is not over. */
export const notEnded: MessageEnd = { stop_reason: null, stop_sequence: null };

/** Why the last delta ended the message, as this API words it. */
export function endOf({ finish, stopReason }: GenerationDelta, hasCalls: boolean): MessageEnd {
  if (finish === 'length') return { stop_reason: 'max_tokens', stop_sequence: null };
  if (typeof stopReason === 'string') return { stop_reason: 'stop_sequence', stop_sequence: stopReason };
  return { stop_reason: hasCalls ? 'tool_use' : 'end_turn', stop_sequence: null };
}

/** Counts as this API words them: what came from the cache is not in `input_tokens`. */
export function usageOf({ promptTokens, cachedTokens, completionTokens }: GenerationUsage): object {
  return {
    input_tokens: promptTokens - cachedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
    output_tokens: completionTokens,
  };
}

/** Anthropic's message object. */
export function messageObject(
  settings: MessageSettings,
  content: readonly ContentBlock[],
  end: MessageEnd,
  usage: object,
): object {
  const { id, modelName } = settings;
  return { id, type: 'message', role: 'assistant', model: modelName, content, ...end, usage };
}

/** A message that is sent as a whole. */
export class WholeMessage implements GatheredAnswer {
  readonly body: Promise<object>;
  readonly #settings: MessageSettings;
  readonly #blocks: ContentBlocks;
  #last: GenerationDelta | undefined;
  #resolve: (body: object) => void = () => {};
  #reject: (error: Error) => void = () => {};

  constructor(settings: MessageSettings) {
    this.#settings = settings;
    this.#blocks = new ContentBlocks(settings.reading);
    this.body = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // The caller may have gone by then.
    this.body.catch(() => {});
  }

  get finishReasons(): string {
    return this.#last?.finish ?? '';
  }

  start(): void {}

  delta(_choice: number, delta: GenerationDelta): void {
    this.#blocks.push(delta.text);
    this.#last = delta;
  }

  end(usage: GenerationUsage): void {
    this.#blocks.finish();
    const end = this.#last ? endOf(this.#last, this.#blocks.hasCalls) : notEnded;
    this.#resolve(messageObject(this.#settings, this.#blocks.blocks, end, usageOf(usage)));
  }

  fail(error: NereidError): void {
    this.#reject(error);
  }
}
