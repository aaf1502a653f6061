import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import type { Distribution } from '../sampling/distribution.ts';
import { rejectionDraws, verifyDrawn } from './rejection.ts';

const draws = 100_000;

/** χ² at a chance of 1 in 10,000 (Wilson–Hilferty): a right rule exceeds it in one of so many seeds, and these are fixed. */
function chiSquareMax(freedom: number): number {
  const z = 3.719;
  const spread = 2 / (9 * freedom);
  return freedom * (1 - spread + z * Math.sqrt(spread)) ** 3;
}

function distribution(random: SeededRandom, tokens: readonly number[], sharpness: number): Distribution {
  const weights = tokens.map(() => Math.exp(sharpness * (random.next() * 2 - 1)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return {
    tokens: Int32Array.from(tokens),
    probabilities: Float64Array.from(weights, (weight) => weight / total),
  };
}

function drawn({ tokens, probabilities }: Distribution, uniform: number): number {
  let left = uniform;
  for (const [index, probability] of probabilities.entries()) {
    left -= probability;
    if (left < 0) return tokens[index]!;
  }
  return tokens.at(-1)!;
}

function chiSquare({ tokens, probabilities }: Distribution, counts: ReadonlyMap<number, number>): number {
  let sum = 0;
  for (const [index, token] of tokens.entries()) {
    const expected = probabilities[index]! * draws;
    sum += ((counts.get(token) ?? 0) - expected) ** 2 / expected;
  }
  return sum;
}

const tokens = Array.from({ length: 24 }, (_, index) => 3 * index);
const cases: [string, (random: SeededRandom) => [target: Distribution, drafted: Distribution]][] = [
  ['other weights', (random) => [distribution(random, tokens, 2), distribution(random, tokens, 2)]],
  ['a sharp draft', (random) => [distribution(random, tokens, 1), distribution(random, tokens, 5)]],
  [
    'other tokens, as cuts leave them',
    (random) => [distribution(random, tokens.slice(0, 12), 2), distribution(random, tokens.slice(6), 2)],
  ],
  [
    'nothing in common',
    (random) => [distribution(random, tokens.slice(0, 6), 1), distribution(random, tokens.slice(6), 1)],
  ],
];

for (const [index, [name, make]] of cases.entries()) {
  test(`what comes out is distributed as the model, not as the draft: ${name}`, () => {
    const random = new SeededRandom(100 + index);
    const [target, drafted] = make(random);
    const counts = new Map<number, number>();
    for (let draw = 0; draw < draws; draw++) {
      const token = drawn(drafted, random.next());
      const said = verifyDrawn(target, { token, distribution: drafted }, rejectionDraws(7, index, draw));
      counts.set(said, (counts.get(said) ?? 0) + 1);
    }
    const max = chiSquareMax(target.tokens.length - 1);
    const found = chiSquare(target, counts);
    assert.ok(found < max, `χ² ${found.toFixed(1)} over ${max.toFixed(1)}`);
    assert.equal(
      [...counts.values()].reduce((sum, count) => sum + count, 0),
      draws,
    );
  });
}

test('the test would see a rule that is wrong', () => {
  const random = new SeededRandom(5);
  const target = distribution(random, tokens, 2);
  const drafted = distribution(random, tokens, 2);
  const counts = new Map<number, number>();
  for (let draw = 0; draw < draws; draw++) {
    const token = drawn(drafted, random.next());
    // A constant threshold keeps what is likely enough, and so does not keep the distribution.
    const draft = { token, distribution: drafted, threshold: 0.5 };
    const said = verifyDrawn(target, draft, rejectionDraws(7, 0, draw));
    counts.set(said, (counts.get(said) ?? 0) + 1);
  }
  assert.ok(chiSquare(target, counts) > 2 * chiSquareMax(tokens.length - 1));
});

test('equal distributions accept everything, and accept as often as they overlap', () => {
  const random = new SeededRandom(9);
  const target = distribution(random, tokens, 2);
  for (let draw = 0; draw < 1000; draw++) {
    const token = drawn(target, random.next());
    assert.equal(verifyDrawn(target, { token, distribution: target }, rejectionDraws(1, 0, draw)), token);
  }
  const drafted = distribution(random, tokens, 2);
  const overlap = target.probabilities.reduce(
    (sum, p, index) => sum + Math.min(p, drafted.probabilities[index]!),
    0,
  );
  let accepted = 0;
  for (let draw = 0; draw < draws; draw++) {
    const token = drawn(drafted, random.next());
    if (verifyDrawn(target, { token, distribution: drafted }, rejectionDraws(2, 0, draw)) === token)
      accepted++;
  }
  assert.ok(Math.abs(accepted / draws - overlap) < 0.01, `${accepted / draws} of ${overlap}`);
});

test('a threshold: so many times as likely as where it was drawn from', () => {
  const target = { tokens: Int32Array.of(1, 2), probabilities: Float64Array.of(0.3, 0.7) };
  const drafted = { tokens: Int32Array.of(1, 2), probabilities: Float64Array.of(0.6, 0.4) };
  const verify = (threshold: number) =>
    verifyDrawn(target, { token: 1, distribution: drafted, threshold }, { accept: 0, residual: 0.5 });
  assert.equal(verify(0.5), 1);
  assert.equal(verify(0.51), 2);
});
