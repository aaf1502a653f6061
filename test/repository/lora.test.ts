/** LoRA through TensorRT-LLM's tensors: task ids, weights that requests bring, folders that are read at start. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeNpy } from '../../src/checkpoint/npy.ts';
import { bytesTensor, type Tensor, tensorOf, valuesOf } from '../../src/repository/tensor.ts';
import { taskLoadsMax } from '../../src/runtime/adapters/task-adapters.ts';
import { temporaryFolder } from '../support/checkpoint-files.ts';
import { adapterArrays } from '../support/null-adapters.ts';
import { type EngineModels, engineModels } from './engine-models.ts';
import { inferAll } from './model-folder.ts';

const int = (name: string, ...values: number[]) =>
  tensorOf(name, 'INT32', [1, values.length], Int32Array.from(values));
const taskId = (id: number) => tensorOf('lora_task_id', 'UINT64', [1, 1], BigUint64Array.of(BigInt(id)));

/** An adapter's tensors. */
function adapterOf(number: number, rank?: number): [weights: Tensor, config: Tensor] {
  const { rows, length, weights, config } = adapterArrays(number, rank);
  return [
    tensorOf('lora_weights', 'FP16', [1, rows, length], weights),
    tensorOf('lora_config', 'INT32', [1, rows, 3], config),
  ];
}

async function idsOf(models: EngineModels, ...extra: Tensor[]): Promise<string> {
  const prompt = [int('input_ids', 65, 66, 67), int('input_lengths', 3), int('request_output_len', 6)];
  const [response] = await inferAll(models.repository.model('tensorrt_llm'), {
    inputs: [...prompt, ...extra],
  });
  const tensor = response?.outputs.find(({ name }) => name === 'output_ids');
  assert.ok(tensor);
  return valuesOf(tensor, 'INT32').join();
}

async function refusal(models: EngineModels, ...extra: Tensor[]): Promise<string> {
  return idsOf(models, ...extra).then(
    () => 'nothing',
    (error: Error & { status?: string }) => `${error.status} ${error.message}`,
  );
}

test('weights come once, then the task id alone is enough; each task has its own', async (t) => {
  // Other tests write adapters at the same time.
  const before = process.env.TMPDIR;
  process.env.TMPDIR = temporaryFolder(t);
  t.after(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  });
  const models = await engineModels();
  t.after(() => models.close());
  const plain = await idsOf(models);
  const first = await idsOf(models, taskId(1), ...adapterOf(1));
  assert.notEqual(first, plain);
  assert.equal(await idsOf(models, taskId(1)), first);
  const second = await idsOf(models, taskId(2), ...adapterOf(2));
  assert.notEqual(second, first);
  assert.equal(await idsOf(models, taskId(1), ...adapterOf(1)), first);
  assert.equal(await idsOf(models), plain);
  // Another adapter under a known number takes its place.
  assert.equal(await idsOf(models, taskId(1), ...adapterOf(2)), second);
  const left = readdirSync(tmpdir()).filter((name) => name.startsWith('nereid-lora-'));
  assert.deepEqual(left, [], 'files are gone when the engine has read them');
});

test('requests that come together share one load', async (t) => {
  const models = await engineModels();
  t.after(() => models.close());
  const texts = await Promise.all([1, 2, 3].map(() => idsOf(models, taskId(5), ...adapterOf(5))));
  assert.equal(new Set(texts).size, 1);
  assert.deepEqual(
    models.host.engines[0]?.adapters?.list().map(({ name, isTransient }) => [name, isTransient]),
    [['5', true]],
  );
});

for (const name of ['ensemble', 'tensorrt_llm_bls']) {
  test(`${name}: the tensors reach the engine`, async (t) => {
    const models = await engineModels();
    t.after(() => models.close());
    const ask = async (...extra: Tensor[]): Promise<string> => {
      const inputs = [bytesTensor('text_input', [1, 1], ['abc']), int('max_tokens', 6), ...extra];
      const [response] = await inferAll(models.repository.model(name), { inputs });
      return Buffer.from(
        response?.outputs.find((tensor) => tensor.name === 'text_output')?.data ?? [],
      ).toString('hex');
    };
    const plain = await ask();
    const adapted = await ask(taskId(3), ...adapterOf(3));
    assert.notEqual(adapted, plain);
    assert.equal(await ask(taskId(3)), adapted);
    await assert.rejects(ask(taskId(4)), /LoRA task 4 not found in cache/);
  });
}

test('the original’s words', async (t) => {
  const models = await engineModels();
  t.after(() => models.close());
  const [weights, config] = adapterOf(1);
  const cases: [RegExp, Tensor[]][] = [
    [/^INVALID_ARGUMENT LoRA task 9 not found in cache. Please send LoRA weights with request/, [taskId(9)]],
    [/^INVALID_ARGUMENT lora_task_id must be set for LoRA inference/, [weights, config]],
    [
      /Request for LoRA inference must have both lora_weights and lora_keys.*'lora_config'/,
      [taskId(1), weights],
    ],
    [/must have both lora_weights and lora_keys.*'lora_weights'/, [taskId(1), config]],
    [/Invalid low_rank \(9\). low_rank must be smaller than mMaxLowRank/, [taskId(1), ...adapterOf(1, 9)]],
    [
      /lora module mlp_gate not enabled for this model/,
      [taskId(1), weights, tensorOf('lora_config', 'INT32', [1, 2, 3], Int32Array.of(7, 0, 2, 1, 1, 2))],
    ],
    [
      /Expected layerId to be in the range \[0, 2\)/,
      [taskId(1), weights, tensorOf('lora_config', 'INT32', [1, 2, 3], Int32Array.of(1, 2, 2, 1, 1, 2))],
    ],
    [
      /lora_weights has to few values for attn_q/,
      [taskId(1), weights, tensorOf('lora_config', 'INT32', [1, 2, 3], Int32Array.of(1, 0, 8, 1, 1, 2))],
    ],
  ];
  for (const [message, tensors] of cases) assert.match(await refusal(models, ...tensors), message);
});

test('what the host cache has no room for is forgotten, and sent again', async (t) => {
  const models = await engineModels({ values: { lora_cache_host_memory_bytes: '300' } });
  t.after(() => models.close());
  // Two layers of rank 2 as float32 take 112 bytes: two of them fit.
  for (const task of [1, 2, 3]) await idsOf(models, taskId(task), ...adapterOf(task));
  assert.match(await refusal(models, taskId(1)), /LoRA task 1 not found in cache/);
  assert.equal(await refusal(models, taskId(1), ...adapterOf(1)), 'nothing');
});

test('so many adapters are loaded at a time, and no more', async (t) => {
  const models = await engineModels();
  t.after(() => models.close());
  const all = Array.from({ length: taskLoadsMax + 1 }, (_, task) =>
    refusal(models, taskId(task), ...adapterOf(task)),
  );
  const outcomes = await Promise.all(all);
  assert.deepEqual(outcomes.slice(0, taskLoadsMax), Array(taskLoadsMax).fill('nothing'));
  assert.match(outcomes.at(-1) ?? '', /^UNAVAILABLE 16 LoRA adapters are being loaded \(taskLoadsMax\)/);
});

test('lora_prefetch_dir: folders by task id, others are skipped', async (t) => {
  const folder = temporaryFolder(t);
  for (const name of ['7', 'notes', '08']) {
    mkdirSync(join(folder, name));
    for (const { name: file, shape, data } of adapterOf(7)) {
      const dtype = file === 'lora_weights' ? 'f16' : 'i32';
      await writeNpy(join(folder, name, `model.${file}.npy`), { dtype, shape, data });
    }
  }
  const models = await engineModels({
    values: { lora_prefetch_dir: folder, lora_cache_max_adapter_size: '4' },
  });
  t.after(() => models.close());
  assert.deepEqual(models.repository.failures(), []);
  const [asked] = models.host.asked;
  assert.deepEqual(asked?.adaptersAtStart, [{ name: '7', path: join(folder, '7') }]);
  assert.deepEqual(asked?.adapters, { rankMax: 4 });
  const prefetched = await idsOf(models, taskId(7));
  assert.notEqual(prefetched, await idsOf(models));
  assert.equal(await idsOf(models, taskId(8), ...adapterOf(7)), prefetched);
  const none = await engineModels({ values: { lora_prefetch_dir: join(folder, 'none') } });
  t.after(() => none.close());
  assert.match(
    JSON.stringify(none.repository.failures()),
    /lora_prefetch_dir of tensorrt_llm is '.*none', which is no folder/,
  );
});
