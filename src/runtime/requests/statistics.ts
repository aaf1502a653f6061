/** What an engine says of itself: plain data, structured-clone safe. */

/** An engine's gauges and counters, sent along with events (at most every `statisticsIntervalMs`). */
export interface EngineStatistics {
  /** When this was read, on the engine's own monotonic clock. */
  atNs: number;
  runningSequences: number;
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
}
