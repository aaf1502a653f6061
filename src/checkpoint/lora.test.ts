import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { temporaryFolder } from '../../test/support/checkpoint-files.ts';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import type { CheckpointErrorCode } from './errors.ts';
import { openLora } from './lora.ts';
import { ModulePattern } from './lora-pattern.ts';
import { writeSafetensors } from './safetensors-writer.ts';

const real = [
  { name: 'stories260K-lora-exclaim', rank: 8, alpha: 16, modules: 35 },
  { name: 'stories260K-lora-zed', rank: 4, alpha: 8, modules: 10 },
];

for (const { name, rank, alpha, modules } of real) {
  test(`${name} opens`, { skip: skipWithout(`models/${name}`) }, () => {
    const adapter = openLora(sharedPath(`models/${name}`));
    assert.equal(adapter.config.rank, rank);
    assert.equal(adapter.config.alpha, alpha);
    assert.equal(adapter.targets.size, modules);
    const target = adapter.targets.get('model.layers.0.self_attn.q_proj')!;
    assert.deepEqual(target.a.shape, [rank, 64]);
    assert.deepEqual(target.b.shape, [64, rank]);
    assert.equal(target.scale, alpha / rank);
  });
}

const config = { peft_type: 'LORA', r: 2, lora_alpha: 8, target_modules: ['q_proj'], bias: 'none' };

async function adapter(
  t: TestContext,
  changes: Record<string, unknown>,
  shapes: Record<string, number[]>,
): Promise<string> {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, ...changes }));
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const data = new Uint8Array(4 * shape.reduce((product, size) => product * size, 1));
    return { name, dtype: 'f32' as const, shape, data };
  });
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), { tensors });
  return folder;
}

const q = 'base_model.model.model.layers.0.self_attn.q_proj';
const pair = (module: string, rank = 2, suffix = '') => ({
  [`${module}.lora_A${suffix}.weight`]: [rank, 4],
  [`${module}.lora_B${suffix}.weight`]: [6, rank],
});

test('rank-stabilised scales, patterns and the names of unprocessed state dicts', async (t) => {
  const stabilised = openLora(await adapter(t, { use_rslora: true }, pair(q)));
  assert.equal(stabilised.targets.get('model.layers.0.self_attn.q_proj')?.scale, 8 / Math.sqrt(2));
  const other = 'base_model.model.model.layers.11.self_attn.q_proj';
  const patterns = {
    rank_pattern: { 'layers.11.self_attn.q_proj': 1 },
    alpha_pattern: { 'layers\\.\\d+\\.self_attn\\.q_proj': 3 },
  };
  const { targets } = openLora(await adapter(t, patterns, { ...pair(q, 2, '.default'), ...pair(other, 1) }));
  assert.equal(targets.get('model.layers.0.self_attn.q_proj')?.scale, 1.5);
  assert.equal(targets.get('model.layers.11.self_attn.q_proj')?.scale, 3);
});

test('methods beyond plain LoRA are refused by name', async (t) => {
  const refuses = async (changes: Record<string, unknown>, message: RegExp) => {
    const folder = await adapter(t, changes, pair(q));
    assert.throws(() => openLora(folder), { code: 'LORA_UNSUPPORTED', message });
  };
  await refuses({ use_dora: true }, /DoRA \(use_dora\); merge it/);
  await refuses({ bias: 'lora_only' }, /trains biases/);
  await refuses({ modules_to_save: ['lm_head'] }, /uses modules_to_save/);
  await refuses({ lora_bias: true }, /uses lora_bias/);
  await refuses({ trainable_token_indices: [1] }, /trainable_token_indices/);
  await refuses({ peft_type: 'LOHA' }, /peft_type is "LOHA"/);
  await refuses({ rank_pattern: { '(a+)+': 2 } }, /module pattern '\(a\+\)\+'/);
});

test('damaged configs and tensors are named', async (t) => {
  const refuses = async (
    code: CheckpointErrorCode,
    message: RegExp,
    changes: object,
    shapes: Record<string, number[]>,
  ) => {
    const folder = await adapter(t, { ...changes }, shapes);
    assert.throws(() => openLora(folder), { code, message });
  };
  await refuses('LORA_CONFIG_INVALID', /r must be a whole number from 1 to 1024, not 0/, { r: 0 }, pair(q));
  await refuses('LORA_CONFIG_INVALID', /r must be/, { r: 1025 }, pair(q));
  await refuses('LORA_CONFIG_INVALID', /lora_alpha must be a number/, { lora_alpha: 'x' }, pair(q));
  await refuses('LORA_CONFIG_INVALID', /rank_pattern of 'q'/, { rank_pattern: { q: 'x' } }, pair(q));
  await refuses('LORA_CONFIG_INVALID', /target_modules/, { target_modules: 7 }, pair(q));
  await refuses('LORA_TENSOR_INVALID', /has no lora_B/, {}, { [`${q}.lora_A.weight`]: [2, 4] });
  await refuses('LORA_TENSOR_INVALID', /rank 2 wants \[2, inputs\]/, {}, pair(q, 3));
  await refuses('LORA_TENSOR_INVALID', /holds no LoRA tensors/, {}, {});
  await refuses('LORA_TENSOR_INVALID', /two lora_A/, {}, { ...pair(q), ...pair(q, 2, '.default') });
  await refuses('LORA_UNSUPPORTED', /LoRA on an embedding/, {}, { 'e.lora_embedding_A': [1] });
  await refuses('LORA_UNSUPPORTED', /neither lora_A nor lora_B/, {}, { 'lm_head.weight': [1] });
});

test('missing files say which', (t) => {
  assert.throws(() => openLora(temporaryFolder(t)), {
    code: 'CHECKPOINT_INCOMPLETE',
    message: /no adapter_config\.json/,
  });
  const files = { 'adapter_config.json': JSON.stringify(config) };
  assert.throws(() => openLora(temporaryFolder(t, files)), { code: 'CHECKPOINT_INCOMPLETE' });
  const pickled = temporaryFolder(t, { ...files, 'adapter_model.bin': '' });
  assert.throws(() => openLora(pickled), {
    code: 'CHECKPOINT_FORMAT_UNSUPPORTED',
    message: /adapter_model\.bin \(pickled\)/,
  });
});

test('a module pattern matches whole names at the end, and hostile ones are refused', () => {
  const matches = (key: string, module: string) => new ModulePattern('config', key).matches(module);
  assert.ok(matches('q_proj', 'model.layers.0.q_proj'));
  assert.ok(!matches('q_proj', 'model.layers.0.my_q_proj'));
  assert.ok(matches('layers.0.q_proj', 'model.layers.0.q_proj'));
  assert.ok(matches('.*\\.layers\\.\\d+\\.q_proj', 'model.layers.10.q_proj'));
  assert.ok(matches('(q|v)_proj', 'model.layers.10.v_proj'));
  const alternatives = '(a|a)'.repeat(9);
  for (const key of ['(a*)*', '(?=a)', '(a)\\1', 'a*b*c*', 'a?a?a?', '(', 'a'.repeat(257), alternatives]) {
    assert.throws(() => new ModulePattern('config', key), { code: 'LORA_UNSUPPORTED' }, key);
  }
});

test('patterns that could take long together are refused', async (t) => {
  const module = `${'a.'.repeat(1000)}q`;
  const folder = await adapter(t, { alpha_pattern: { '.*a.*b': 1 } }, pair(module));
  assert.throws(() => openLora(folder), {
    code: 'LORA_UNSUPPORTED',
    message: /could take over 1000000000 steps/,
  });
});
