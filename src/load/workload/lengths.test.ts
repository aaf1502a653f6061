import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { describeLength, histograms, lengthOf } from './lengths.ts';

test('a histogram: lengths of its buckets, each as often as its count says', () => {
  const { input: buckets } = histograms.example!;
  const spec = { distribution: 'histogram' as const, buckets };
  const random = new SeededRandom(7);
  const draws = 20_000;
  const counts = buckets.map(() => 0);
  for (let i = 0; i < draws; i++) {
    const length = lengthOf(random, spec);
    const bucket = buckets.findIndex(([first, last]) => length >= first && length <= last);
    assert.ok(bucket >= 0, `${length}`);
    counts[bucket]!++;
  }
  const total = buckets.reduce((sum, [, , count]) => sum + count, 0);
  // Five standard deviations of a binomial count.
  for (const [index, [, , count]] of buckets.entries()) {
    const share = count / total;
    assert.ok(Math.abs(counts[index]! - draws * share) < 5 * Math.sqrt(draws * share * (1 - share)));
  }
  assert.equal(describeLength(spec), 'histogram 151–275');
});
