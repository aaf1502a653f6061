import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AttentionAttributes, RopeAttributes } from '../../graph/ops.ts';
import { KvBlocks } from './kv-blocks.ts';
import { attention } from './ops/attention.ts';
import { erf, geluOf, silu, zip } from './ops/elementwise.ts';
import { linear, takeRows } from './ops/linear.ts';
import { layerNorm, rmsNorm, softmax } from './ops/normalize.ts';
import { concat, slice } from './ops/rearrange.ts';
import { rope } from './ops/rope.ts';

function close(actual: ArrayLike<number>, expected: readonly number[], tolerance = 1e-6): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of expected.entries()) {
    assert.ok(Math.abs(actual[i]! - value) <= tolerance, `element ${i}: ${actual[i]}, expected ${value}`);
  }
}

const floats = (...values: number[]) => Float32Array.from(values);

test('linear is x · weightᵀ + bias', () => {
  const weight = floats(1, 2, 3, 4, 5, 6);
  close(linear(floats(1, 0, -1, 2, 2, 2), weight, floats(10, 20), 3), [8, 18, 22, 50]);
  close(linear(floats(1, 1, 1), weight, undefined, 3), [6, 15]);
});

test('takeRows picks, repeats and picks none', () => {
  close(takeRows(floats(1, 2, 3, 4), Int32Array.of(1, 0, 1), 2), [3, 4, 1, 2, 3, 4]);
  assert.equal(takeRows(floats(1, 2), new Int32Array(0), 2).length, 0);
});

test('norms: a row of mean square 1 keeps its values; a row is shifted and scaled to mean 0, variance 1', () => {
  close(rmsNorm(floats(1, -1, 3, 3), floats(2, 1), 1e-12), [2, -1, 2, 1]);
  close(layerNorm(floats(1, 3, 10, 14), floats(1, 1), floats(0, 5), 1e-12), [-1, 6, -1, 6]);
  close(rmsNorm(floats(3, 4), floats(1, 1), 12.5), [0.6, 0.8]);
});

test('activations at known points', () => {
  close([silu(0), silu(1), silu(-20)], [0, 0.7310585786300049, -4.1223e-8]);
  // Φ(1) = 0.8413447461.
  close(
    [geluOf('erf')(1), geluOf('tanh')(1), geluOf('quick')(1)],
    [0.8413447461, 0.8411919906, 0.8457957659],
    1e-9,
  );
  close(
    [erf(0), erf(0.5), erf(-2), erf(5.9), erf(7)],
    [0, 0.5204998778130465, -0.9953222650189527, 1, 1],
    1e-15,
  );
});

test('zip repeats a shorter b over leading dimensions', () => {
  close(
    zip(floats(1, 2, 3, 4), floats(10, 20), (a, b) => a + b),
    [11, 22, 13, 24],
  );
});

test('softmax of large scores does not overflow', () => {
  close(softmax(floats(1000, 1000, 0, Math.log(3)), 2), [0.5, 0.5, 0.25, 0.75]);
});

test('slice and concat on inner and outer axes undo each other', () => {
  const x = floats(0, 1, 2, 3, 4, 5);
  const left = slice(x, [2, 3], 1, 0, 1);
  const right = slice(x, [2, 3], 1, 1, 3);
  close(left, [0, 3]);
  close(right, [1, 2, 4, 5]);
  const parts = [
    { values: left, shape: [2, 1] },
    { values: right, shape: [2, 2] },
  ];
  close(concat(parts, 1), [...x]);
  close(slice(x, [2, 3], 0, 1, 2), [3, 4, 5]);
});

const plain: RopeAttributes = { mode: 'half', dimensions: 4, theta: 100, frequencyScale: 1 };

test('rope turns pairs as complex numbers: (a + ib) · e^(i · position · θ^(−2j/d))', () => {
  const x = floats(1, 2, 3, 4);
  // Frequencies 1 and 0.1 at position 2; pairs (0, 2), (1, 3) for halves, (0, 1), (2, 3) interleaved.
  const turn = (a: number, b: number, angle: number) => [
    a * Math.cos(angle) - b * Math.sin(angle),
    a * Math.sin(angle) + b * Math.cos(angle),
  ];
  const [a, c] = turn(1, 3, 2);
  const [b, d] = turn(2, 4, 0.2);
  close(rope(x, Int32Array.of(2), undefined, 4, plain), [a!, b!, c!, d!]);
  const interleaved = rope(x, Int32Array.of(2), undefined, 4, { ...plain, mode: 'interleaved' });
  close(interleaved, [...turn(1, 2, 2), ...turn(3, 4, 0.2)]);
});

test('rope: linear scaling slows positions, factors divide frequencies, elements past `dimensions` stay', () => {
  const x = floats(1, 2, 3, 4);
  const quarter = rope(x, Int32Array.of(8), undefined, 4, { ...plain, frequencyScale: 0.25 });
  close(quarter, [...rope(x, Int32Array.of(2), undefined, 4, plain)]);
  const stretched = rope(x, Int32Array.of(8), floats(4, 4), 4, plain);
  close(stretched, [...rope(x, Int32Array.of(2), undefined, 4, plain)]);
  close(rope(x, Int32Array.of(3), undefined, 4, { ...plain, dimensions: 2 }).subarray(2), [3, 4]);
});

test('yarn keeps fast pairs, interpolates slow ones, and grows magnitudes by 1 + 0.1 ln(factor)', () => {
  const yarn = {
    originalContextLength: 64,
    extrapolationFactor: 1,
    attentionFactor: 1,
    betaFast: 32,
    betaSlow: 1,
  };
  const attributes = { ...plain, dimensions: 64, theta: 10000, frequencyScale: 0.25, yarn };
  const x = new Float32Array(64).fill(1, 0, 32);
  const y = rope(x, Int32Array.of(5), undefined, 64, attributes);
  const magnitude = 1 + 0.1 * Math.log(4);
  close([y[0]!, y[32]!], [Math.cos(5) * magnitude, Math.sin(5) * magnitude]);
  const slow = (5 / 4) * 10000 ** (-62 / 64);
  close([y[31]!, y[63]!], [Math.cos(slow) * magnitude, Math.sin(slow) * magnitude]);
});

const single: AttentionAttributes = {
  layer: 0,
  heads: 2,
  kvHeads: 1,
  headDimension: 1,
  valueHeadDimension: 2,
  scale: 1,
};

function attend(attributes: AttentionAttributes): Float32Array {
  const spec = { layers: [{ kind: 'self' as const, keyElements: 1, valueElements: 2 }] };
  const blocks = Int32Array.of(1, 0);
  const kv = new KvBlocks(spec, { blocks: 2, blockPositions: 2, hostBlocks: 0 }, 'f32');
  kv.extend(blocks, 3, 3);
  const segments = [{ blocks, rows: 3, kvLength: 3 }];
  // Queries (0, ln 2) in every row; keys 1, 0, 1; values (1, 0), (0, 1), (4, 4).
  const q = floats(0, Math.LN2, 0, Math.LN2, 0, Math.LN2);
  return attention(q, floats(1, 0, 1), floats(1, 0, 0, 1, 4, 4), attributes, segments, kv);
}

test('attention averages the values that a row may see, weighted by e^score', () => {
  const row0 = [1, 0, 1, 0];
  const row1 = [1 / 2, 1 / 2, 2 / 3, 1 / 3];
  const row2 = [5 / 3, 5 / 3, (2 + 8) / 5, (1 + 8) / 5];
  close(attend(single), [...row0, ...row1, ...row2]);
});

test('attention: a window hides older keys; a soft cap squeezes scores', () => {
  close(attend({ ...single, window: 1 }), [1, 0, 1, 0, 0, 1, 0, 1, 4, 4, 4, 4]);
  const capped = Math.exp(0.5 * Math.tanh(Math.LN2 / 0.5));
  close(attend({ ...single, softcap: 0.5 }).subarray(6, 8), [capped / (capped + 1), 1 / (capped + 1)]);
});
