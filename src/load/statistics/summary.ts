/** One metric over requests (or gaps). */
export interface Summary {
  count: number;
  mean: number;
  median: number;
  /** Population standard deviation (numpy's default). */
  std: number;
  min: number;
  max: number;
  /** Values at the asked percentiles, in their order. */
  percentiles: readonly [percentile: number, value: number][];
}

/**
 * The p-th percentile of ascending values, with linear interpolation between the two nearest (numpy's default method).
 * @param p 0 … 100
 */
export function percentile(ascending: ArrayLike<number>, p: number): number {
  if (ascending.length === 0) return Number.NaN;
  const at = ((ascending.length - 1) * p) / 100;
  const low = Math.floor(at);
  const lowValue = ascending[low] ?? Number.NaN;
  const highValue = ascending[Math.min(low + 1, ascending.length - 1)] ?? Number.NaN;
  return lowValue + (highValue - lowValue) * (at - low);
}

/** Describes values; all zeros where there is none, as vLLM's report has it. */
export function summarize(values: ArrayLike<number>, percentiles: readonly number[]): Summary {
  const ascending = Float64Array.from(values).sort();
  const count = ascending.length;
  if (count === 0) {
    const zeros = percentiles.map((p): [number, number] => [p, 0]);
    return { count: 0, mean: 0, median: 0, std: 0, min: 0, max: 0, percentiles: zeros };
  }
  let sum = 0;
  for (const value of ascending) sum += value;
  const mean = sum / count;
  let squares = 0;
  for (const value of ascending) squares += (value - mean) ** 2;
  return {
    count,
    mean,
    median: percentile(ascending, 50),
    std: Math.sqrt(squares / count),
    min: ascending[0] ?? 0,
    max: ascending[count - 1] ?? 0,
    percentiles: percentiles.map((p) => [p, percentile(ascending, p)]),
  };
}
