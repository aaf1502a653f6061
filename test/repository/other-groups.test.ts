import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { bytesTensor, type Tensor, tensorOf, textsOf, valuesOf } from '../../src/repository/tensor.ts';
import { promptOf } from '../openai/test-server.ts';
import { engineModels } from './engine-models.ts';
import { inferAll, testRepository } from './model-folder.ts';

const says = 'Once upon a time. ';
const prompt = promptOf(says);
const text = (name: string, ...values: string[]) => bytesTensor(name, [values.length], values);
const int = (name: string, value: number) => tensorOf(name, 'INT32', [1], Int32Array.of(value));
const bool = (name: string) => tensorOf(name, 'BOOL', [1], Uint8Array.of(1));

describe('gpt', () => {
  test('answers a batch as one, statically', async () => {
    const models = await engineModels({ group: 'gpt', says });
    assert.deepEqual(models.repository.failures(), []);
    assert.equal(models.host.asked[0]?.capacityPolicy, 'static_batch');
    const rows = [prompt, prompt + prompt];
    const column = (name: string, values: number[]) =>
      tensorOf(name, 'INT32', [values.length, 1], Int32Array.from(values));
    const inputs: Tensor[] = [
      bytesTensor('text_input', [2, 1], rows),
      column('max_tokens', [4, 6]),
      bytesTensor('bad_words', [2, 1], ['', '']),
      bytesTensor('stop_words', [2, 1], ['', '']),
      column('end_id', [256, 256]),
      column('pad_id', [256, 256]),
    ];
    const responses = await inferAll(models.repository.model('ensemble'), { inputs });
    assert.equal(responses.length, 1);
    const [output] = responses[0]!.outputs;
    assert.deepEqual(textsOf(output!), [`${prompt}Once`, `${prompt}${prompt}Once u`]);
    const core = models.repository.model('tensorrt_llm');
    const one = await inferAll(core, {
      inputs: [
        column('input_ids', [65, 66]),
        column('input_lengths', [1, 1]),
        column('request_output_len', [2, 1]),
        column('end_id', [256, 256]),
        column('pad_id', [256, 256]),
        tensorOf('output_log_probs', 'BOOL', [2, 1], Uint8Array.of(1, 1)),
      ],
    });
    assert.deepEqual(
      one[0]?.outputs.map(({ name, shape }) => [name, ...shape]),
      [
        ['output_ids', 2, 1, 3],
        ['log_probs', 2, 1, 2],
      ],
    );
    assert.equal(valuesOf(one[0]!.outputs[0]!, 'INT32')[5], 256);
    const [engine] = models.repository.engines();
    assert.deepEqual(engine?.outputTokens.counts, [4, 0, 0, 0, 0, 0]);
    assert.equal(engine?.inputTokens.sum, prompt.length * 3 + 2);
    await models.close();
  });
});

describe('llmapi', () => {
  test('text in, text out, with reasons and stop strings', async () => {
    const models = await engineModels({ group: 'llmapi', says });
    assert.deepEqual(models.repository.failures(), []);
    const model = models.repository.model('tensorrt_llm');
    assert.equal(model.isDecoupled, false);
    const ask = async (...inputs: Tensor[]) => {
      const [response] = await inferAll(model, { inputs: [text('text_input', prompt), ...inputs] });
      return Object.fromEntries(
        response!.outputs.map((tensor) => [
          tensor.name,
          tensor.datatype === 'BYTES' ? textsOf(tensor)[0] : valuesOf(tensor, 'FP32')[0],
        ]),
      );
    };
    assert.deepEqual(await ask(int('sampling_param_max_tokens', 4)), { text_output: 'Once' });
    assert.deepEqual(
      await ask(
        text('sampling_param_stop', ' time'),
        bool('return_finish_reason'),
        bool('return_stop_reason'),
      ),
      { text_output: 'Once upon a', finish_reason: 'stop', stop_reason: ' time' },
    );
    const measured = await ask(bool('return_cumulative_logprob'), bool('sampling_param_return_perf_metrics'));
    assert.equal(typeof measured.cumulative_logprob, 'number');
    const blocks = (name: string) => JSON.parse(measured[`kv_cache_${name}_block`] as string) as number;
    // Of the null device: 32 positions each.
    assert.equal(blocks('missed') + blocks('reused'), Math.ceil(prompt.length / 32));
    await assert.rejects(ask(bool('streaming')), /Streaming is only supported in decoupled mode/);
    await assert.rejects(ask(text('lora_name', 'x')), { status: 'NOT_FOUND', message: /'x' is not loaded/ });
    await assert.rejects(ask(text('lora_path', '/x')), { message: /'lora_path' needs a 'lora_name'/ });
    await assert.rejects(ask(int('sampling_param_best_of', 3)), { status: 'UNSUPPORTED' });
    await models.close();
  });

  test('a model.yaml that cannot be is the reason', async () => {
    const models = await engineModels({ group: 'llmapi', values: { engine_dir: '' } });
    assert.match(models.repository.failures()[0]?.reason ?? '', /model.yaml: model/);
    await models.close();
  });
});

describe('Python models of the original', () => {
  test('are served by what stands for them', async () => {
    const models = await engineModels({ says, values: { triton_backend: 'python' }, backend: 'python' });
    assert.deepEqual(models.repository.failures(), []);
    assert.equal(models.repository.model('preprocessing').config.backend, 'python');
    for (const name of ['ensemble', 'tensorrt_llm_bls']) {
      const inputs = [
        bytesTensor('text_input', [1, 1], [prompt]),
        tensorOf('max_tokens', 'INT32', [1, 1], Int32Array.of(4)),
      ];
      const [response] = await inferAll(models.repository.model(name), { inputs, outputs: ['text_output'] });
      assert.deepEqual(textsOf(response!.outputs[0]!), ['Once']);
    }
    await models.close();
  });

  test('of others are refused with the way out', async () => {
    const { repository, close } = await testRepository({
      'm/config.pbtxt': 'backend: "python" input { name: "a" data_type: TYPE_INT8 dims: 1 }',
      'm/1/model.py': '',
    });
    assert.match(repository.failures()[0]?.reason ?? '', /Python model 'm' cannot run here.*backend: "node"/);
    await close();
  });
});
