import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BuildRecipe, defaultRecipe } from './config.ts';
import { chooseDtype, matches } from './dtype-policy.ts';

const tied = { layers: 8, hasOutput: false };
const untied = { layers: 8, hasOutput: true };

function choose(
  name: string,
  shape: number[],
  dtype: BuildRecipe['dtype'],
  model = tied,
  tensors: BuildRecipe['tensors'] = [],
) {
  return chooseDtype({ name, shape, dtype: 'f32' }, model, { ...defaultRecipe, dtype, tensors });
}

test('auto keeps the type of the checkpoint', () => {
  assert.deepEqual(choose('blk.0.attn_q.weight', [64, 64], 'auto'), { dtype: 'f32' });
});

test('norms, biases and position tables stay in float32', () => {
  for (const [name, shape] of [
    ['blk.0.attn_norm.weight', [64]],
    ['blk.0.attn_q.bias', [64]],
    ['position_embd.weight', [1024, 768]],
  ] as const) {
    assert.equal(choose(name, [...shape], 'q4_0').dtype, 'f32');
    assert.equal(choose(name, [...shape], 'f16').dtype, 'f32');
  }
});

test('the output projection keeps more bits, also where the embedding serves as one', () => {
  assert.equal(choose('output.weight', [1000, 512], 'q4_0', untied).dtype, 'q6_k');
  assert.equal(choose('token_embd.weight', [1000, 512], 'q4_0', untied).dtype, 'q4_0');
  assert.equal(choose('token_embd.weight', [1000, 512], 'q4_k', tied).dtype, 'q6_k');
  // SmolLM2-135M: 576 is no multiple of 256.
  assert.equal(choose('token_embd.weight', [49152, 576], 'q4_0', tied).dtype, 'q8_0');
});

test('q4_k gives sensitive layers more bits, as Q4_K_M does', () => {
  const types = Array.from(
    { length: 8 },
    (_, layer) => choose(`blk.${layer}.ffn_down.weight`, [512, 1536], 'q4_k').dtype,
  );
  assert.deepEqual(types, ['q6_k', 'q4_k', 'q4_k', 'q6_k', 'q4_k', 'q4_k', 'q6_k', 'q6_k']);
  assert.equal(choose('blk.0.ffn_up.weight', [1536, 512], 'q4_k').dtype, 'q4_k');
});

test('rows that do not fit a block fall back, with the reason', () => {
  assert.deepEqual(choose('blk.0.ffn_down.weight', [64, 172], 'q8_0'), {
    dtype: 'f16',
    reason: "rows of 172 are no multiple of q8_0's block of 32",
  });
  assert.equal(choose('blk.1.ffn_up.weight', [1536, 576], 'q4_k').dtype, 'q5_0');
  assert.equal(choose('blk.1.ffn_up.weight', [1536, 576], 'q6_k').dtype, 'q8_0');
  assert.equal(choose('blk.1.ffn_up.weight', [64, 172], 'q4_k').dtype, 'f16');
});

test('the first matching override counts, and must fit as well', () => {
  const rules = [
    { pattern: 'blk.*.attn_v.weight', dtype: 'q8_0' as const },
    { pattern: 'blk.*', dtype: 'f32' as const },
  ];
  assert.equal(choose('blk.3.attn_v.weight', [64, 64], 'q4_0', tied, rules).dtype, 'q8_0');
  assert.equal(choose('blk.3.attn_v.weight', [64, 172], 'q4_0', tied, rules).dtype, 'f16');
  assert.equal(choose('blk.3.attn_k.weight', [64, 64], 'q4_0', tied, rules).dtype, 'f32');
});

test('patterns match whole names', () => {
  assert.ok(matches('*', 'output.weight'));
  assert.ok(matches('blk.*.ffn_*.weight', 'blk.12.ffn_down.weight'));
  assert.ok(!matches('blk.*.ffn', 'blk.12.ffn_down.weight'));
  assert.ok(!matches('a*a', 'a'));
  assert.ok(matches('output.weight', 'output.weight'));
  assert.ok(!matches('a*b*c', 'axc'));
});
