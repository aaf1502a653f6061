/** What an engine says of itself: plain data, structured-clone safe. */
import { definite } from '../../base/errors.ts';

/** An engine's gauges and counters, sent along with events (at most every `statisticsIntervalMs`). */
export interface EngineStatistics extends EngineFigures {
  /** Of the drafts, those that held, by their place behind the last known token (vLLM's `..._per_pos`); places that no draft reached are left out. */
  acceptedDraftsByPlace: readonly number[];
  /** Of an engine that serves LoRA adapters. */
  adapters?: AdapterUse;
}

/** Names of the adapters that requests have. */
export interface AdapterUse {
  /** They have a place on the device. */
  running: readonly string[];
  /** They wait for one. */
  waiting: readonly string[];
  /** Places, of one engine. */
  slots: number;
}

/** The plain numbers of {@link EngineStatistics}. */
export interface EngineFigures {
  /** When this was read, on the engine's own monotonic clock. */
  atNs: number;
  runningSequences: number;
  /** Of the running ones: whose prompt is still being computed. */
  contextSequences: number;
  /** Sequences of requests that have begun and that wait: paused for others, or not started yet. */
  pausedSequences: number;
  waitingRequests: number;
  kvBytesReserved: number;
  kvBytesMax: number;
  /** Of the host tier, for reuse alone. */
  kvHostBytesUsed: number;
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
  /** Times that drafts of a sequence were verified, drafts, and those of them that held (vLLM's `spec_decode_*`). */
  draftSteps: number;
  draftTokens: number;
  acceptedDraftTokens: number;
}

/** How a field of several engines becomes one. A new field must say. */
const combinations = {
  // Each engine has a clock of its own: only that it goes on matters.
  atNs: 'max',
  runningSequences: 'sum',
  contextSequences: 'sum',
  pausedSequences: 'sum',
  waitingRequests: 'sum',
  kvBytesReserved: 'sum',
  kvBytesMax: 'sum',
  kvHostBytesUsed: 'sum',
  promptTokens: 'sum',
  cachedPromptTokens: 'sum',
  generatedTokens: 'sum',
  steps: 'sum',
  computeNs: 'sum',
  stepNs: 'sum',
  prefixQueries: 'sum',
  prefixHits: 'sum',
  draftSteps: 'sum',
  draftTokens: 'sum',
  acceptedDraftTokens: 'sum',
} as const satisfies Record<keyof EngineFigures, 'sum' | 'max'>;

/** Several engines' statistics as one engine's. There is one at least. */
export function combinedStatistics(all: readonly EngineStatistics[]): EngineStatistics {
  const combined = { ...definite(all[0], 'the first engine') };
  for (const next of all.slice(1)) {
    for (const [key, combination] of Object.entries(combinations)) {
      const field = key as keyof EngineFigures;
      if (combination === 'max') combined[field] = Math.max(combined[field], next[field]);
      else combined[field] += next[field];
    }
    combined.acceptedDraftsByPlace = sumEach(combined.acceptedDraftsByPlace, next.acceptedDraftsByPlace);
    if (next.adapters) combined.adapters = together(combined.adapters, next.adapters);
  }
  return combined;
}

function sumEach(a: readonly number[], b: readonly number[]): number[] {
  return Array.from(
    { length: Math.max(a.length, b.length) },
    (_, index) => (a[index] ?? 0) + (b[index] ?? 0),
  );
}

function together(a: AdapterUse | undefined, b: AdapterUse): AdapterUse {
  if (!a) return b;
  const running = new Set([...a.running, ...b.running]);
  const waiting = new Set([...a.waiting, ...b.waiting]);
  return { running: [...running], waiting: [...waiting], slots: Math.max(a.slots, b.slots) };
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
  /** Tokens whose KV is found together (`kv/prefix-hash.ts`): what a prefix-aware router must hash by. */
  kvChunkPositions: number;
  weightBytes: number;
  /** Columns of the final hidden states, of which embeddings are made; 0 where the device gives none. */
  hiddenWidth: number;
  /** Memory for logits and hidden states of all requests under way. */
  outputBytesMax: number;
}
