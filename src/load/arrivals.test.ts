import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../base/random.ts';
import { type Arrivals, arrivalOffsetsMs, describeArrivals } from './arrivals.ts';
import { normal } from './distributions.ts';

/** The Kolmogorov–Smirnov statistic of values against a distribution function, times √n: over 1.95 has a chance of 0.1 %. */
function kolmogorovSmirnov(values: number[], cdf: (value: number) => number): number {
  const ascending = values.toSorted((a, b) => a - b);
  const n = ascending.length;
  let distance = 0;
  ascending.forEach((value, i) => {
    const expected = cdf(value);
    distance = Math.max(distance, Math.abs(expected - i / n), Math.abs((i + 1) / n - expected));
  });
  return distance * Math.sqrt(n);
}
const criticalValue = 1.95;
const count = 4000;
const seeds = [0, 1, 2, 7, 4_294_967_295];

function gapsOf(arrivals: Arrivals, seed: number): number[] {
  const offsets = arrivalOffsetsMs(arrivals, count, seed);
  return Array.from(offsets, (at, i) => at - (i > 0 ? offsets[i - 1]! : 0));
}

/** The lower incomplete gamma function over the gamma function, by its series: gamma's distribution function at scale 1. */
function gammaCdf(shape: number, x: number): number {
  if (x <= 0) return 0;
  let term = 1 / shape;
  let sum = term;
  for (let k = 1; k < 1000 && term > sum * 1e-14; k++) {
    term *= x / (shape + k);
    sum += term;
  }
  return Math.min(1, sum * Math.exp(shape * Math.log(x) - x - logGamma(shape)));
}

/** Stirling's series after shifting up. */
function logGamma(x: number): number {
  let shift = 0;
  let z = x;
  while (z < 10) shift -= Math.log(z++);
  return (
    shift + (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + 1 / (12 * z) - 1 / (360 * z ** 3)
  );
}

test('Poisson arrivals have exponential gaps, on every seed', () => {
  for (const seed of seeds) {
    const gaps = gapsOf({ kind: 'poisson', ratePerSecond: 50 }, seed);
    const statistic = kolmogorovSmirnov(gaps, (gap) => 1 - Math.exp(-gap / 20));
    assert.ok(statistic < criticalValue, `seed ${seed}: ${statistic}`);
  }
});

test('gamma arrivals have gamma gaps with the asked mean, burstier and more regular', () => {
  for (const burstiness of [0.25, 0.5, 1, 3, 20]) {
    for (const seed of seeds) {
      const gaps = gapsOf({ kind: 'gamma', ratePerSecond: 100, burstiness }, seed);
      const scale = 10 / burstiness;
      const statistic = kolmogorovSmirnov(gaps, (gap) => gammaCdf(burstiness, gap / scale));
      assert.ok(statistic < criticalValue, `burstiness ${burstiness}, seed ${seed}: ${statistic}`);
    }
  }
});

test('the test would notice: Poisson gaps are not those of burstiness 2', () => {
  const gaps = gapsOf({ kind: 'poisson', ratePerSecond: 100 }, 0);
  assert.ok(kolmogorovSmirnov(gaps, (gap) => gammaCdf(2, gap / 5)) > 5);
});

test('normal draws are normal', () => {
  // Abramowitz and Stegun 7.1.26: |error| < 1.5e-7.
  const erf = (x: number): number => {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const poly =
      t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - poly * Math.exp(-x * x));
  };
  for (const seed of seeds) {
    const random = new SeededRandom(seed);
    const values = Array.from({ length: count }, () => normal(random, 128, 10));
    const statistic = kolmogorovSmirnov(values, (value) => 0.5 * (1 + erf((value - 128) / 10 / Math.SQRT2)));
    assert.ok(statistic < criticalValue, `seed ${seed}: ${statistic}`);
  }
});

test('constant, all at once and replayed arrivals', () => {
  const plain = (arrivals: Arrivals, n: number): number[] => [...arrivalOffsetsMs(arrivals, n, 0)];
  assert.deepEqual(plain({ kind: 'constant', ratePerSecond: 4 }, 3), [0, 250, 500]);
  assert.deepEqual(plain({ kind: 'at-once' }, 3), [0, 0, 0]);
  // The second round begins one mean gap after the first one's end.
  assert.deepEqual(plain({ kind: 'replay', offsetsMs: [100, 110, 140] }, 5), [0, 10, 40, 60, 70]);
  assert.equal(
    describeArrivals({ kind: 'gamma', ratePerSecond: 3, burstiness: 0.5 }),
    'gamma at 3/s, burstiness 0.5',
  );
});

test('the same seed gives the same arrivals, another seed others', () => {
  const poisson: Arrivals = { kind: 'poisson', ratePerSecond: 10 };
  assert.deepEqual(arrivalOffsetsMs(poisson, 10, 5), arrivalOffsetsMs(poisson, 10, 5));
  assert.notDeepEqual(arrivalOffsetsMs(poisson, 10, 5), arrivalOffsetsMs(poisson, 10, 6));
});

test('rates and traces that cannot be are refused', () => {
  const code = 'LOAD_OPTION_INVALID';
  assert.throws(() => arrivalOffsetsMs({ kind: 'poisson', ratePerSecond: 0 }, 1, 0), { code });
  assert.throws(() => arrivalOffsetsMs({ kind: 'gamma', ratePerSecond: 1, burstiness: -1 }, 1, 0), { code });
  assert.throws(() => arrivalOffsetsMs({ kind: 'replay', offsetsMs: [] }, 1, 0), { code });
});
