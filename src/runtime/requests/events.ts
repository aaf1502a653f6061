import type { Outputs } from '../outputs/output-rows.ts';

/** What an engine answers, step by step: plain data, structured-clone safe. */

export type FinishReason =
  /** A stop id (or, decided by the front end, a stop string). */
  | 'stop'
  /** `maxTokens` or the context was reached. */
  | 'length'
  | 'cancelled'
  | 'error';

/** Log-probability of a chosen token and of the likeliest ones, natural logarithm. */
export interface TokenLogprobs {
  logprob: number;
  top: { tokens: Int32Array; logprobs: Float32Array };
}

/** What one step did to one sequence. Several tokens a step are normal (speculation). */
export interface SequenceEvent {
  requestId: number;
  /** 0-based among the request's sequences. */
  sequence: number;
  tokens: number[];
  logprobs?: TokenLogprobs[];
  finish?: FinishReason;
  /** With the first event of a request. */
  start?: RequestStart;
  /** With the finish of a sequence that had drafts verified: how many, and how many held. */
  drafts?: { proposed: number; accepted: number };
  /** With a text of a beam search: its log-probability, and what it was ranked by. */
  beam?: { cumulativeLogprob: number; score: number };
  /** Rows that the request asked for: of the prompt with `start`, of tokens with those. */
  outputs?: Outputs;
  /** The prompt as one vector (`returns.pooling`), not normalized, with the finish. */
  embedding?: Float32Array;
  /** With `finish: 'error'`. */
  error?: { code: string; kind: string; message: string };
}

/** Facts about a request that are known when its first token is, or where it makes none, its prompt is computed. */
export interface RequestStart {
  /** The seed in use. */
  seed: number;
  /** Prompt positions taken from another request's KV. */
  cachedTokens: number;
  /** Time from arrival at the engine to the first step with this request, and from then to its first token. */
  queuedMs: number;
  prefillMs: number;
  promptLogprobs?: (TokenLogprobs | undefined)[];
}
