/** How a request ended. `cancelled`: by us, as the load asked for; `stopped`: the run ended (Ctrl-C) while it was in flight. */
export type RequestOutcome = 'completed' | 'failed' | 'cancelled' | 'stopped';

/** Where a request's output token count comes from, best first. */
export type TokenCountSource = 'usage' | 'ids' | 'tokenizer' | 'parts';

/**
 * The raw log of one request; every statistic is computed from these alone, and the result's JSON carries them, so that anyone can
 * compute them again. Milliseconds.
 */
export interface RequestRecord {
  /** The request's place in the plan: session, and turn within it. */
  session: number;
  turn: number;
  worker: number;
  /** The model (or adapter) that it named, where the load mixes several. */
  model?: string;
  /** When it should have been sent, from the run's start; absent in a closed loop. */
  scheduledMs?: number;
  /** When it was handed to the connection, from the run's start. */
  sentMs: number;
  /** When each streamed output arrived, from `sentMs`. A stream's head (the role) and its end (`[DONE]`, usage) are no outputs. */
  outputMs: number[];
  /** When the last byte of the answer arrived, from `sentMs`. */
  endMs: number;
  inputTokens: number;
  outputTokens: number;
  cachedTokens?: number;
  tokenCountSource: TokenCountSource;
  outcome: RequestOutcome;
  finishReason?: string;
  error?: string;
  /** The answer's text, where it was asked to be kept. */
  text?: string;
}
