import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from './half.ts';
import { SeededRandom, uniform } from './random.ts';
import { Registry } from './registry.ts';

test('every half survives the way to float32 and back', () => {
  for (let half = 0; half < 0x10000; half++) {
    const notANumber = (half & 0x7c00) === 0x7c00 && (half & 0x3ff) !== 0;
    if (notANumber) assert.ok(Number.isNaN(f16ToF32(half)));
    else assert.equal(f32ToF16(f16ToF32(half)), half);
  }
});

test('halves round to nearest, ties to even, and overflow to infinity', () => {
  assert.equal(f32ToF16(1 + 2 ** -11), 0x3c00);
  assert.equal(f32ToF16(1 + 3 * 2 ** -11), 0x3c02);
  assert.equal(f32ToF16(65519.99), 0x7bff);
  assert.equal(f32ToF16(65520), 0x7c00);
  assert.equal(f32ToF16(-(2 ** -25)), 0x8000);
});

test('every bfloat16 survives the way to float32 and back', () => {
  for (let value = 0; value < 0x10000; value++) {
    const float = bf16ToF32(value);
    if (!Number.isNaN(float)) assert.equal(f32ToBf16(float), value);
  }
});

test('uniform depends on its whole key and nothing else', () => {
  assert.equal(uniform(1, 2, 3), uniform(1, 2, 3));
  const values = new Set([
    uniform(1, 2, 3),
    uniform(2, 2, 3),
    uniform(1, 3, 3),
    uniform(1, 2, 4),
    uniform(2 ** 32 + 1, 2, 3),
  ]);
  assert.equal(values.size, 5);
});

test('uniform is uniform enough: mean and variance of 100,000 draws', () => {
  const random = new SeededRandom(7);
  let sum = 0;
  let squares = 0;
  const count = 100_000;
  for (let i = 0; i < count; i++) {
    const value = random.next();
    assert.ok(value >= 0 && value < 1);
    sum += value;
    squares += value * value;
  }
  assert.ok(Math.abs(sum / count - 0.5) < 0.005);
  assert.ok(Math.abs(squares / count - 1 / 3) < 0.005);
});

test('a registry names the known rows when asked for an unknown one', async () => {
  const registry = new Registry('device', { ggml: async () => 1, null: async () => 2 });
  assert.equal(await registry.load('null'), 2);
  await assert.rejects(registry.load('tpu'), /unknown device 'tpu'; known: ggml, null/);
});
