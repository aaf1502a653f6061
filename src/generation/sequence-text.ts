import type { Outputs } from '../runtime/outputs/output-rows.ts';
import type { FinishReason, SequenceEvent, TokenLogprobs } from '../runtime/requests/events.ts';
import { StopStringMatcher } from '../tokenizer/stop-strings.ts';
import type { IncrementalDecoder, Tokenizer } from '../tokenizer/types.ts';
import { LateStopStrings } from './late-stop-strings.ts';

/** What one step did to one sequence, as text. */
export interface GenerationDelta {
  /** 0-based among the request's sequences. */
  sequence: number;
  /** Text that became certain; '' while a character or a possible stop string is incomplete. */
  text: string;
  /** The step's tokens, without a stop id and without what follows a stop string. */
  tokens: readonly number[];
  /** One for each of `tokens`, where asked for. */
  logprobs?: readonly TokenLogprobs[];
  /** Tokens of the sequence so far; a stop id counts. */
  tokenCount: number;
  finish?: Extract<FinishReason, 'stop' | 'length'>;
  /** Rows that the request asked for (`returns`). Those of tokens may be more than `tokens`: a stop id has its row, too. */
  outputs?: Outputs;
  /** The prompt as one vector, where asked for, with the finish. */
  embedding?: Float32Array;
  /** What stopped it: the string, or an id that the request named itself. Absent for the model's own end of text (as in vLLM). */
  stopReason?: string | number;
}

/** How a sequence's tokens become text, and what ends it. */
export interface SequenceTextOptions {
  tokenizer: Tokenizer;
  stopStrings: readonly string[];
  /** Ids that the request itself listed (the model's own are known by `finish: 'stop'`). */
  requestStopTokenIds: readonly number[];
  /** A stop string that ends within these first tokens is text like any other; one that only begins there counts. */
  minTokens: number;
  includeStopString: boolean;
  skipSpecialTokens: boolean;
}

/** One sequence's way from tokens to text: incremental detokenization, then stop strings. */
export class SequenceText {
  readonly #sequence: number;
  readonly #options: SequenceTextOptions;
  readonly #decoder: IncrementalDecoder;
  readonly #matcher: StopStringMatcher | LateStopStrings | undefined;
  /** Tokens so far, a stop id included. */
  tokenCount = 0;
  finished = false;

  /** @throws TokenizerError STOP_STRING_INVALID */
  constructor(sequence: number, options: SequenceTextOptions) {
    this.#sequence = sequence;
    this.#options = options;
    const { skipSpecialTokens } = options;
    this.#decoder = options.tokenizer.incrementalDecoder({ skipSpecialTokens, continuation: true });
    if (options.stopStrings.length === 0) return;
    const Matcher = options.minTokens > 0 ? LateStopStrings : StopStringMatcher;
    this.#matcher = new Matcher(options.stopStrings);
  }

  /** Turns an event (not of an error or a cancellation) into a delta; `finished` is true after the last. */
  accept(event: SequenceEvent): GenerationDelta {
    const delta = this.#deltaOf(event);
    delta.tokenCount = this.tokenCount;
    if (event.outputs) delta.outputs = event.outputs;
    if (event.embedding) delta.embedding = event.embedding;
    return delta;
  }

  #deltaOf(event: SequenceEvent): GenerationDelta {
    const { tokens, logprobs } = event;
    const ended = event.finish === 'stop' || event.finish === 'length';
    const textCount = event.finish === 'stop' ? tokens.length - 1 : tokens.length;
    const delta: GenerationDelta = { sequence: this.#sequence, text: '', tokens, tokenCount: 0, logprobs };
    for (let i = 0; i < textCount; i++) {
      this.tokenCount++;
      const stopped = this.#append(delta, this.#decoder.push(tokens[i] as number));
      if (stopped) return trimmed(delta, i + 1);
    }
    if (!ended) return delta;
    this.finished = true;
    delta.finish = event.finish as 'stop' | 'length';
    // A stop string may end within what the decoder held back.
    if (this.#append(delta, this.#decoder.flush())) return trimmed(delta, textCount);
    if (this.#matcher) delta.text += this.#matcher.flush();
    if (textCount < tokens.length && textCount >= 0)
      this.#endWithStopToken(delta, tokens[textCount] as number);
    return trimmed(delta, Math.max(0, textCount));
  }

  #endWithStopToken(delta: GenerationDelta, stopToken: number): void {
    this.tokenCount++;
    if (this.#options.requestStopTokenIds.includes(stopToken)) delta.stopReason = stopToken;
  }

  /** @returns whether a stop string ended the sequence */
  #append(delta: GenerationDelta, piece: string): boolean {
    const matcher = this.#matcher;
    if (!matcher) {
      delta.text += piece;
      return false;
    }
    const match = matcher.push(piece, this.tokenCount > this.#options.minTokens);
    delta.text += match.text;
    if (match.stopped === undefined) return false;
    if (this.#options.includeStopString) delta.text += match.stopped;
    delta.finish = 'stop';
    delta.stopReason = match.stopped;
    this.finished = true;
    return true;
  }
}

/** Cuts tokens and their log-probabilities to the first `count`. */
function trimmed(delta: GenerationDelta, count: number): GenerationDelta {
  if (count < delta.tokens.length) {
    delta.tokens = delta.tokens.slice(0, count);
    if (delta.logprobs) delta.logprobs = delta.logprobs.slice(0, count);
  }
  return delta;
}
