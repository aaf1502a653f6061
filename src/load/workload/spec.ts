/**
 * A distribution of lengths in tokens. `normal`: spread is the standard deviation; `uniform`: the half-width around the mean;
 * `histogram`: a bucket is drawn by its count, then a length from its first to its last, evenly.
 */
export type LengthSpec =
  | { distribution: 'normal' | 'uniform'; mean: number; spread: number }
  | { distribution: 'histogram'; buckets: readonly HistogramBucket[] };

/** So many requests of lengths from `first` to `last`. */
export type HistogramBucket = readonly [first: number, last: number, count: number];

/** Where prompts and lengths come from. */
export type WorkloadSource =
  /** These prompts, in turn. */
  | { kind: 'fixed'; prompts: readonly string[] }
  /** Made-up text of drawn lengths, behind one of `prefixes` shared beginnings of `prefixTokens` tokens, in conversations of `turns`. */
  | { kind: 'synthetic'; input: LengthSpec; prefixes: number; prefixTokens: number; turns: number }
  /** A JSON list of conversations (ShareGPT): the first two messages give prompt and answer length. */
  | { kind: 'sharegpt'; path: string }
  /** A JSON list of `{instruction, input, output}`; the answer's length is words of `output` × `tokensPerWord`. */
  | { kind: 'instruction'; path: string; tokensPerWord: number }
  /** JSON lines of `{prompt, output_tokens?}`. */
  | { kind: 'custom'; path: string }
  /** The lengths of a recorded trace of arrivals. */
  | { kind: 'replay'; path: string };

/** A workload as plain data: what a worker process needs to make its share. */
export interface WorkloadSpec {
  source: WorkloadSource;
  /** Lengths of the answers; absent: as the dataset says. */
  output?: LengthSpec;
  seed: number;
  /** Whether targets are sent ids instead of text. */
  sendsTokens: boolean;
  /** A folder with tokenizer.json, for exact lengths and for turning text into ids. */
  tokenizerFolder?: string;
  /** Ids below this are drawn where there is no tokenizer. */
  vocabularySize: number;
  /** Models or adapters to name; drawn at random for each session. Empty: the target's own. */
  models: readonly string[];
  /** Longer prompts are left out of a dataset, and drawn no longer. */
  inputTokensMax?: number;
  /** Share of requests that are cancelled, after a random part of their answer. */
  cancelShare: number;
  /** Begin every prompt with text of its own, so that no prefix cache helps. */
  salted: boolean;
}
