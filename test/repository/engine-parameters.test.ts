import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Tensor, tensorOf, valuesOf } from '../../src/repository/tensor.ts';
import { eventually } from '../openai/test-server.ts';
import { type EngineModels, type EngineModelsOptions, engineModels } from './engine-models.ts';
import { inferAll } from './model-folder.ts';

/** What the parameters of `tensorrt_llm` do, by what comes out. */
const int = (name: string, ...values: number[]): Tensor =>
  tensorOf(name, 'INT32', [1, values.length], Int32Array.from(values));

const ask = (prompt: readonly number[], tokens: number): Tensor[] => [
  int('input_ids', ...prompt),
  int('input_lengths', prompt.length),
  int('request_output_len', tokens),
  int('end_id', -1),
];

async function withModels(
  options: EngineModelsOptions,
  body: (models: EngineModels) => Promise<void>,
): Promise<void> {
  const models = await engineModels(options);
  try {
    assert.deepEqual(models.repository.failures(), []);
    await body(models);
  } finally {
    await models.close();
  }
}

/** Which of two requests is answered first: a long one, or a short one that comes when the long one has begun. */
async function firstOfTwo({ repository, host }: EngineModels): Promise<string> {
  const model = repository.model('tensorrt_llm');
  const order: string[] = [];
  const long = inferAll(model, { inputs: ask([1, 2, 3], 300) }).then(() => order.push('long'));
  await eventually(() => (host.engines[0]?.statistics().generatedTokens ?? 0) > 0, 'it has begun');
  const short = inferAll(model, { inputs: ask([4, 5, 6], 1) }).then(() => order.push('short'));
  await Promise.all([long, short]);
  return order[0] ?? '';
}

describe('parameters of tensorrt_llm', () => {
  test('batching_strategy inflight_fused_batching: who comes later joins the batch', () =>
    withModels({ stepMs: 1 }, async (models) => {
      assert.equal(models.host.asked[0]?.capacityPolicy, 'guaranteed_no_evict');
      assert.equal(await firstOfTwo(models), 'short');
    }));

  test('batching_strategy V1: a batch is answered before the next begins', () =>
    withModels({ stepMs: 1, values: { batching_strategy: 'V1' } }, async (models) => {
      assert.equal(models.host.asked[0]?.capacityPolicy, 'static_batch');
      assert.equal(models.repository.engines()[0]?.isInflight, false);
      assert.equal(await firstOfTwo(models), 'long');
    }));

  for (const isOn of [true, false]) {
    test(`enable_kv_cache_reuse ${isOn}`, () =>
      withModels({ values: { enable_kv_cache_reuse: String(isOn) } }, async ({ repository, host }) => {
        const prompt = Array.from({ length: 500 }, (_, index) => index % 200);
        const model = repository.model('tensorrt_llm');
        const first = await inferAll(model, { inputs: ask(prompt, 2) });
        const again = await inferAll(model, { inputs: ask(prompt, 2) });
        assert.deepEqual(idsOf(again), idsOf(first));
        const { cachedPromptTokens } = host.engines[0]?.statistics() ?? { cachedPromptTokens: -1 };
        assert.equal(cachedPromptTokens > 0, isOn, `${cachedPromptTokens} tokens`);
      }));

    test(`exclude_input_in_output ${isOn}: the parameter, and the input over it`, () =>
      withModels({ values: { exclude_input_in_output: String(isOn) } }, async ({ repository }) => {
        const model = repository.model('tensorrt_llm');
        const truth = (name: string, value: boolean) =>
          tensorOf(name, 'BOOL', [1, 1], Uint8Array.of(value ? 1 : 0));
        const inputs = ask([7, 8, 9], 2);
        const length = async (more: Tensor[]) =>
          idsOf(await inferAll(model, { inputs: [...inputs, ...more] })).length;
        assert.equal(await length([]), isOn ? 2 : 5);
        assert.equal(await length([truth('exclude_input_in_output', true)]), 2);
        assert.equal(await length([truth('exclude_input_in_output', false)]), 5);
        assert.equal(await length([truth('streaming', true)]), 1, 'a stream never has the prompt');
      }));
  }
});

function idsOf(responses: Awaited<ReturnType<typeof inferAll>>): number[] {
  const tensor = responses[0]?.outputs.find(({ name }) => name === 'output_ids');
  assert.ok(tensor);
  return [...valuesOf(tensor, 'INT32')];
}
