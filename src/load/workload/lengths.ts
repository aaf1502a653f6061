import type { SeededRandom } from '../../base/random.ts';
import { normalInteger } from '../distributions.ts';
import type { HistogramBucket, LengthSpec } from './spec.ts';

/** Draws a length, 1 at least. */
export function lengthOf(random: SeededRandom, spec: LengthSpec): number {
  if (spec.distribution === 'histogram') return fromBuckets(random, spec.buckets);
  const { distribution, mean, spread } = spec;
  if (distribution === 'normal') return normalInteger(random, mean, spread, 1);
  return Math.max(1, Math.round(mean + (random.next() * 2 - 1) * spread));
}

/** A few words for reports. */
export function describeLength(spec: LengthSpec): string {
  if (spec.distribution === 'histogram') {
    const { buckets } = spec;
    return `histogram ${buckets[0]?.[0] ?? 0}–${buckets.at(-1)?.[1] ?? 0}`;
  }
  const { distribution, mean, spread } = spec;
  return spread === 0 ? `${mean}` : `${distribution} ${mean} ± ${spread}`;
}

function fromBuckets(random: SeededRandom, buckets: readonly HistogramBucket[]): number {
  let left = random.integer(buckets.reduce((sum, [, , count]) => sum + count, 0));
  for (const [first, last, count] of buckets) {
    if (left < count) return first + random.integer(last - first + 1);
    left -= count;
  }
  return 1;
}

/**
 * The histograms that `nereid bench core token-from-histogram` knows, by key: prompt and answer lengths, and how many requests one holds.
 * `example` is the one of Triton's benchmark_core_model (the smaller of its two counts).
 */
export const histograms: Readonly<
  Record<string, { input: readonly HistogramBucket[]; output: readonly HistogramBucket[]; requests: number }>
> = {
  example: {
    input: [
      [151, 175, 220],
      [176, 200, 225],
      [201, 225, 150],
      [226, 250, 150],
      [251, 275, 140],
    ],
    output: [
      [6, 10, 76],
      [11, 15, 210],
      [16, 20, 174],
      [21, 25, 130],
      [26, 30, 152],
    ],
    requests: 742,
  },
};
