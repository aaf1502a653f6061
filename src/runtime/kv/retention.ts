/** Priority of what no request says anything about: TensorRT-LLM's default of 0 to 100. */
export const retentionPriorityDefault = 35;
export const retentionPriorityMax = 100;

/** How dear KV is that nobody in flight holds: what has a lower priority is given up first. */
export interface RetentionLevel {
  /** 0 to {@link retentionPriorityMax}. */
  priority: number;
  /** For how long from when its request ended; then it counts as anybody's. Absent: for good. */
  durationMs?: number;
}

/** The level of prompt positions [start, end). */
export interface RetentionRange extends RetentionLevel {
  start: number;
  /** Absent: to the prompt's end. */
  end?: number;
}

/** What a request says about keeping its KV (TensorRT-LLM's `KvCacheRetentionConfig`). */
export interface Retention {
  /** The first that holds a position counts. */
  ranges: readonly RetentionRange[];
  /** Of what the request makes itself. */
  decode?: RetentionLevel;
}

/** What is said about a position; undefined for nothing. */
export function retentionAt(
  { ranges, decode }: Retention,
  position: number,
  promptLength: number,
): RetentionLevel | undefined {
  if (position >= promptLength) return decode;
  return ranges.find(({ start, end = promptLength }) => position >= start && position < end);
}

/** The dearest level of positions [0, length): of what can only be kept as a whole. */
export function highestRetention(
  { ranges, decode }: Retention,
  length: number,
  promptLength: number,
): RetentionLevel | undefined {
  const levels: RetentionLevel[] = ranges.filter(({ start }) => start < Math.min(length, promptLength));
  if (decode && length > promptLength) levels.push(decode);
  return levels.toSorted((a, b) => b.priority - a.priority)[0];
}
