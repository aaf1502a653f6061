/** The middle value (mean of the two middle ones). */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? Number.NaN) + high) / 2;
}

/** `median [min … max]`, with a fixed number of digits. */
export function summary(values: readonly number[], digits = 1): string {
  const text = (value: number): string => value.toFixed(digits);
  return `${text(median(values))} [${text(Math.min(...values))} … ${text(Math.max(...values))}]`;
}

/** Pairwise ratios of two interleaved series: a[i] / b[i], so that a machine's drift cancels out. */
export function ratios(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, i) => value / (b[i] ?? Number.NaN));
}
