/** Requests and events: what crosses between a front end and an engine. Plain data, structured-clone safe. */

/** How the next token is chosen. Names and meanings follow vLLM's `SamplingParams`. */
export interface SamplingParameters {
  /** 0 is greedy. */
  temperature: number;
  /** 0 keeps all. */
  topK: number;
  /** (0, 1]. */
  topP: number;
  /** [0, 1]: drops tokens less likely than minP times the likeliest. */
  minP: number;
  /** 1 is none; over prompt and output, as in the CTRL paper. */
  repetitionPenalty: number;
  /** Added once for a token already in the output (OpenAI). */
  presencePenalty: number;
  /** Added for each occurrence in the output (OpenAI). */
  frequencyPenalty: number;
  /** Sequence i of the request draws with (seed, i, position). Absent: the engine picks one and reports it. */
  seed?: number;
  /** Added to logits before anything else; −100 and 100 ban and force in practice (OpenAI). */
  logitBias?: readonly (readonly [token: number, bias: number])[];
}

export const greedySampling: SamplingParameters = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

/** One generation request as an engine takes it. Text never crosses: tokens in, tokens out. */
export interface GenerationRequest {
  /** Unique over all front ends of an engine: `frontEnd * 2^40 + counter`, a safe integer. */
  id: number;
  promptTokens: Int32Array;
  sampling: SamplingParameters;
  /** Tokens to make at most, per sequence. */
  maxTokens: number;
  /** Stop ids are banned until so many tokens are made. */
  minTokens: number;
  /** Ids that end a sequence (the id itself is reported, in no text). */
  stopTokenIds: readonly number[];
  /** Parallel sequences over one prompt. */
  sequences: number;
  /** Top log-probabilities to report with each token (0: only the chosen one's); absent: none. */
  logprobs?: number;
  /** Log-probabilities of the prompt's tokens too (OpenAI completions' `echo` + `logprobs`). */
  promptLogprobs?: number;
  /** Requests with different salts share no prefix. */
  cacheSalt?: string;
  /** Higher first; equal ones in order of arrival. */
  priority: number;
}

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
  /** With `finish: 'error'`. */
  error?: { code: string; kind: string; message: string };
}

/** Facts about a request that are known when its first token is. */
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

/** An engine's gauges and counters, sent along with events (at most every `statisticsIntervalMs`). */
export interface EngineStatistics {
  /** When this was read, on the engine's own monotonic clock. */
  atNs: number;
  runningSequences: number;
  waitingRequests: number;
  kvBytesReserved: number;
  kvBytesMax: number;
  promptTokens: number;
  cachedPromptTokens: number;
  generatedTokens: number;
  steps: number;
  /** Time in the device's compute call, and in whole steps. */
  computeNs: number;
  stepNs: number;
  /** Prefix cache, in tokens (vLLM's `prefix_cache_queries` / `_hits`). */
  prefixQueries: number;
  prefixHits: number;
}

/** What a front end must know about an engine before it serves it. */
export interface EngineDescription {
  name: string;
  device: string;
  vocabularySize: number;
  /** Positions of one sequence: prompt and output together. */
  contextLength: number;
  sequencesMax: number;
  batchTokensMax: number;
  kvBytesMax: number;
  weightBytes: number;
}
