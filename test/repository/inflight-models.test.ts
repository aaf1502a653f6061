import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { InferRequest, InferResponse } from '../../src/repository/model.ts';
import { bytesTensor, type Tensor, tensorOf, textsOf, valuesOf } from '../../src/repository/tensor.ts';
import { bytesOf } from '../openai/byte-tokenizer.ts';
import { eventually, promptOf } from '../openai/test-server.ts';
import { type EngineModels, engineModels } from './engine-models.ts';
import { inferAll } from './model-folder.ts';

const int = (name: string, ...values: number[]) =>
  tensorOf(name, 'INT32', [1, values.length], Int32Array.from(values));
const float = (name: string, value: number) => tensorOf(name, 'FP32', [1, 1], Float32Array.of(value));
const bool = (name: string, value = true) => tensorOf(name, 'BOOL', [1, 1], Uint8Array.of(value ? 1 : 0));
const text = (name: string, ...values: string[]) => bytesTensor(name, [1, values.length], values);
const output = (response: InferResponse | undefined, name: string): Tensor => {
  const found = response?.outputs.find((tensor) => tensor.name === name);
  assert.ok(found, `no ${name} among ${response?.outputs.map((tensor) => tensor.name)}`);
  return found;
};
const textOf = (response: InferResponse | undefined) => textsOf(output(response, 'text_output'))[0];

const says = 'Grüße 🙂, world! ';
const prompt = promptOf(says);

async function run(
  models: EngineModels,
  name: string,
  inputs: Tensor[],
  request: Partial<InferRequest> = {},
): Promise<InferResponse[]> {
  return inferAll(models.repository.model(name), { inputs, ...request });
}

describe('inflight_batcher_llm', () => {
  test('loads as it is in the package', async () => {
    const models = await engineModels();
    assert.deepEqual(models.repository.failures(), []);
    assert.equal(models.repository.isReady, true);
    assert.equal(models.repository.model('ensemble').isDecoupled, true);
    assert.equal(models.repository.model('tensorrt_llm').metadata.outputs[0]?.name, 'output_ids');
    assert.equal(models.host.asked.length, 1);
    assert.equal(models.host.asked[0]?.capacityPolicy, 'guaranteed_no_evict');
    assert.equal(models.host.asked[0]?.stepsInFlight, undefined, 'the engine does as it likes');
    assert.equal(models.repository.engines()[0]?.isInflight, true);
    await models.close();
  });

  for (const name of ['ensemble', 'tensorrt_llm_bls']) {
    test(`${name}: streams true deltas, whole characters only`, async () => {
      const models = await engineModels({ says });
      const inputs = [text('text_input', prompt), int('max_tokens', bytesOf(says).length), bool('stream')];
      const pieces = (await run(models, name, inputs)).map((response) => textOf(response) ?? '');
      assert.equal(pieces.join(''), says);
      assert.ok(pieces.length > 10);
      assert.ok(pieces.every((piece) => !piece.includes('\ufffd')));
      const [whole] = await run(models, name, inputs.slice(0, 2));
      assert.equal(textOf(whole), says);
      const [echoed] = await run(models, name, [
        ...inputs.slice(0, 2),
        bool('exclude_input_in_output', false),
      ]);
      assert.equal(textOf(echoed), prompt + says);
      await models.close();
    });

    test(`${name}: stop words are found in the text, and stay in it`, async () => {
      const models = await engineModels({ says });
      for (const stream of [true, false]) {
        const inputs = [
          text('text_input', prompt),
          int('max_tokens', 60),
          bool('stream', stream),
          text('stop_words', 'nowhere', 'wor', ''),
        ];
        const pieces = await run(models, name, inputs);
        assert.equal(pieces.map((response) => textOf(response)).join(''), 'Grüße 🙂, wor');
      }
      await eventually(
        () => models.host.engines[0]!.statistics().runningSequences === 0,
        'the engine stopped',
      );
      await models.close();
    });
  }

  test('the chain by hand says what the ensemble says', async () => {
    const models = await engineModels({ says });
    const [pre] = await run(models, 'preprocessing', [text('QUERY', prompt), int('REQUEST_OUTPUT_LEN', 12)]);
    assert.deepEqual([...valuesOf(output(pre, 'REQUEST_INPUT_LEN'), 'INT32')], [prompt.length]);
    assert.deepEqual(output(pre, 'STOP_WORDS_IDS').shape, [1, 2, 0]);
    const rename = (from: string, to: string): Tensor => ({ ...output(pre, from), name: to });
    const [core] = await run(models, 'tensorrt_llm', [
      rename('INPUT_ID', 'input_ids'),
      rename('REQUEST_INPUT_LEN', 'input_lengths'),
      rename('REQUEST_OUTPUT_LEN', 'request_output_len'),
      rename('OUT_END_ID', 'end_id'),
    ]);
    assert.deepEqual(
      core?.outputs.slice(0, 2).map(({ name, shape }) => [name, ...shape]),
      [
        ['output_ids', 1, 1, 12],
        ['sequence_length', 1, 1],
      ],
    );
    const copy = (name: string, to: string): Tensor => {
      const tensor = output(core, name);
      return { ...tensor, name: to, data: new Uint8Array(tensor.data) };
    };
    const [post] = await run(models, 'postprocessing', [
      copy('output_ids', 'TOKENS_BATCH'),
      copy('sequence_length', 'SEQUENCE_LENGTH'),
    ]);
    const [whole] = await run(models, 'ensemble', [text('text_input', prompt), int('max_tokens', 12)]);
    assert.equal(textsOf(output(post, 'OUTPUT'))[0], textOf(whole));
    await models.close();
  });

  test('a batch and several sequences are answered one by one, with their indexes', async () => {
    const models = await engineModels();
    const inputs = [
      bytesTensor('text_input', [2, 1], ['one', 'other']),
      tensorOf('max_tokens', 'INT32', [2, 1], Int32Array.of(3, 4)),
      tensorOf('num_return_sequences', 'INT32', [2, 1], Int32Array.of(2, 2)),
    ];
    const responses = await run(models, 'ensemble', inputs);
    const indexes = responses.map((response) =>
      ['batch_index', 'sequence_index'].map((name) => valuesOf(output(response, name), 'INT32')[0]).join(),
    );
    assert.deepEqual(indexes.sort(), ['0,0', '0,1', '1,0', '1,1']);
    await models.close();
  });

  test('stop requests end a stream by its id', async () => {
    const models = await engineModels({ stepMs: 2 });
    const core = models.repository.model('tensorrt_llm');
    const inputs = [
      int('input_ids', 65, 66),
      int('input_lengths', 2),
      int('request_output_len', 1500),
      bool('streaming'),
    ];
    let tokens = 0;
    const ended = new Promise<void>((resolve) => {
      core.infer(
        { id: '42', inputs, parameters: {} },
        {
          respond: (response, isFinal) => {
            if (response) tokens += output(response, 'sequence_length').data[0] ?? 0;
            if (isFinal) resolve();
          },
        },
      );
    });
    await eventually(() => tokens > 3, 'some tokens');
    const [answer] = await inferAll(core, { id: '42', inputs: [...inputs.slice(0, 3), bool('stop')] });
    assert.deepEqual(answer?.outputs, []);
    await ended;
    assert.ok(tokens < 1500);
    await eventually(() => models.host.engines[0]!.statistics().runningSequences === 0, 'the engine stopped');
    await inferAll(core, { id: 'unknown', inputs: [...inputs.slice(0, 3), bool('stop')] });
    await assert.rejects(
      inferAll(core, { inputs: [...inputs.slice(0, 3), bool('stop')] }),
      /Trying to stop a request but request ID is not provided/,
    );
    await models.close();
  });

  test('log-probabilities, counts and times, when they are asked for', async () => {
    const models = await engineModels();
    const inputs = [
      text('text_input', 'a'),
      int('max_tokens', 4),
      ...[
        'return_log_probs',
        'return_perf_metrics',
        'return_num_input_tokens',
        'return_num_output_tokens',
      ].map((name) => bool(name)),
    ];
    const [response] = await run(models, 'ensemble', inputs);
    const logprobs = valuesOf(output(response, 'output_log_probs'), 'FP32');
    assert.equal(logprobs.length, 4);
    assert.equal(valuesOf(output(response, 'num_input_tokens'), 'INT32')[0], 1);
    assert.equal(valuesOf(output(response, 'num_output_tokens'), 'INT32')[0], 4);
    const times = ['arrival', 'first_scheduled', 'first_token', 'last_token'].map(
      (name) => valuesOf(output(response, `${name}_time_ns`), 'INT64')[0] as bigint,
    );
    assert.ok(
      times.every((time, index) => index === 0 || time >= (times[index - 1] as bigint)),
      String(times),
    );
    await models.close();
  });

  test('blocks of the KV cache are counted: new ones, and those that an earlier prompt left', async () => {
    const models = await engineModels();
    const ids = Array.from({ length: 100 }, (_, index) => index);
    const inputs = [int('input_ids', ...ids), int('input_lengths', 100), int('request_output_len', 2)];
    const counts = async () => {
      const [response] = await run(models, 'tensorrt_llm', [...inputs, bool('return_perf_metrics')]);
      return ['alloc_total', 'alloc_new', 'reused'].map(
        (name) => valuesOf(output(response, `kv_cache_${name}_blocks`), 'INT32')[0],
      );
    };
    // Of 32 positions on the null device.
    assert.deepEqual(await counts(), [4, 4, 0]);
    assert.deepEqual(await counts(), [4, 1, 3]);
    await models.close();
  });

  test('beams come as one tensor, best first, padded, with their log-probabilities', async () => {
    const models = await engineModels();
    const good = [int('input_ids', 65, 66), int('input_lengths', 2), int('request_output_len', 5)];
    const wishes = [int('beam_width', 3), bool('return_log_probs'), bool('exclude_input_in_output')];
    const [response] = await run(models, 'tensorrt_llm', [...good, ...wishes]);
    const ids = output(response, 'output_ids');
    assert.deepEqual(ids.shape.slice(0, 2), [1, 3]);
    assert.deepEqual(output(response, 'sequence_length').shape, [1, 3]);
    const sums = [...valuesOf(output(response, 'cum_log_probs'), 'FP32')];
    assert.equal(sums.length, 3);
    assert.deepEqual(
      sums,
      sums.toSorted((a, b) => b - a),
    );
    const logprobs = output(response, 'output_log_probs');
    assert.deepEqual(logprobs.shape, [1, 3, ids.shape[2]]);
    const first = valuesOf(logprobs, 'FP32').subarray(0, ids.shape[2]);
    const sum = first.reduce((total, logprob) => total + logprob, 0);
    assert.ok(Math.abs(sum - (sums[0] ?? 0)) < 1e-3);
    await models.close();
  });

  test('what the engine cannot do is refused by name', async () => {
    const models = await engineModels();
    const good = [int('input_ids', 65), int('input_lengths', 1), int('request_output_len', 2)];
    const refused = async (tensors: Tensor[], request: Partial<InferRequest> = {}) =>
      run(models, 'tensorrt_llm', [...good, ...tensors], request).then(
        () => 'nothing',
        (error: Error & { status?: string }) => `${error.status} ${error.message}`,
      );
    assert.match(
      await refused([float('draft_acceptance_threshold', 0.5)]),
      /^INVALID_ARGUMENT 'draft_acceptance_threshold' needs 'draft_input_ids'/,
    );
    assert.match(
      await refused([text('guided_decoding_guide', '{}')]),
      /^INVALID_ARGUMENT 'guided_decoding_guide' needs a 'guided_decoding_guide_type'/,
    );
    assert.match(
      await refused([], { parameters: { request_type: 'context_only' } }),
      /^UNSUPPORTED disaggregated/,
    );
    const retained = ['starts', 'ends', 'priorities', 'durations_ms'].map((name, index) =>
      tensorOf(`retention_token_range_${name}`, 'INT32', [1, 1], Int32Array.of([0, -1, 90, -1][index]!)),
    );
    assert.equal(await refused([...retained, int('retention_decode_priority', 10)]), 'nothing');
    assert.match(
      await refused(retained.slice(0, 2)),
      /^INVALID_ARGUMENT the tensors 'retention_token_range_starts'/,
    );
    assert.match(await refused([int('retention_decode_priority', 101)]), /retention.decode.priority is 101/);
    const far = tensorOf('bad_words_list', 'INT32', [1, 2, 2], Int32Array.of(65, 99_999, 2, -1));
    assert.match(await refused([far]), /^\w+ .*badWords has token 99999/);
    const broken = tensorOf('stop_words_list', 'INT32', [1, 2, 2], Int32Array.of(65, 66, 3, -1));
    assert.match(await refused([broken]), /^INVALID_ARGUMENT stop_words_list has the offset 3/);
    assert.equal(await refused([int('beam_width', 1), bool('return_context_logits', false)]), 'nothing');
    assert.match(
      await refused([], { outputs: ['output_ids'] }),
      /sequence_length tensor must be present in the list of output/,
    );
    await models.close();
  });

  test('a model that is not decoupled answers once, and refuses streams and batches', async () => {
    const values = { decoupled_mode: 'False', batching_strategy: 'V1', enable_trt_overlap: 'False' };
    const models = await engineModels({ values });
    assert.equal(models.host.asked[0]?.capacityPolicy, 'static_batch');
    assert.equal(models.host.asked[0]?.stepsInFlight, 1);
    const inputs = [text('text_input', 'a'), int('max_tokens', 4)];
    assert.equal((await run(models, 'ensemble', inputs)).length, 1);
    await assert.rejects(
      run(models, 'ensemble', [...inputs, bool('stream')]),
      /in ensemble 'ensemble', Streaming is only supported if model is deployed using decoupled mode./,
    );
    const batch = [
      bytesTensor('text_input', [2, 1], ['a', 'b']),
      tensorOf('max_tokens', 'INT32', [2, 1], Int32Array.of(1, 1)),
    ];
    await assert.rejects(run(models, 'ensemble', batch), /Batch size > 1 requires the tensorrt_llm backend/);
    await models.close();
  });

  test('bls accumulates where it is told to, and checks its inputs', async () => {
    const models = await engineModels({ says, values: { accumulate_tokens: 'true' } });
    const inputs = [text('text_input', prompt), int('max_tokens', 8), bool('stream')];
    const pieces = (await run(models, 'tensorrt_llm_bls', inputs)).map((response) => textOf(response) ?? '');
    assert.ok(pieces.every((piece, index) => index === 0 || piece.startsWith(pieces[index - 1] ?? '')));
    assert.equal(pieces.at(-1), Buffer.from(says).subarray(0, 8).toString());
    await assert.rejects(
      run(models, 'tensorrt_llm_bls', [text('text_input', ''), inputs[1]!]),
      /must not be empty/,
    );
    await assert.rejects(
      run(models, 'tensorrt_llm_bls', [inputs[0]!, int('max_tokens', 0)]),
      /must be above 0/,
    );
    await models.close();
  });

  test('words need weights', async () => {
    const models = await engineModels();
    const inputs = [text('text_input', prompt), int('max_tokens', 4), text('embedding_bias_words', '!')];
    await assert.rejects(
      run(models, 'ensemble', inputs),
      /has 1 words, but EMBEDDING_BIAS_WEIGHTS 0 weights/,
    );
    await models.close();
  });

  test('a bounded queue refuses what the engine has not begun', async () => {
    const models = await engineModels({ stepMs: 20, values: { max_queue_size: '2' } });
    const inputs = [text('text_input', 'a'), int('max_tokens', 2), float('temperature', 1)];
    const outcomes = await Promise.allSettled(
      Array.from({ length: 5 }, () => run(models, 'ensemble', inputs)),
    );
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    assert.equal(refused.length, 3);
    for (const { reason } of refused) assert.match(String(reason), /Exceeds maximum queue size/);
    await models.close();
  });

  test('unloading gives the engine back', async () => {
    const models = await engineModels({
      repository: { controlMode: 'explicit', loadModels: ['ensemble'], drainMs: 0 },
    });
    assert.equal(models.repository.isModelReady('ensemble'), true);
    assert.equal(models.repository.isModelReady('tensorrt_llm_bls'), false);
    await models.repository.unload('ensemble', { unloadDependents: true });
    await eventually(() => models.host.engines[0]?.ready === false, 'the engine closed');
    assert.deepEqual(models.repository.index(true), []);
    await models.close();
  });

  test('configurations that cannot be', async () => {
    const reason = async (values: Record<string, string>) => {
      const models = await engineModels({ values });
      const found =
        models.repository.failures().find(({ name }) => name === 'tensorrt_llm')?.reason ?? 'none';
      await models.close();
      return found;
    };
    assert.match(await reason({ batching_strategy: 'other' }), /Invalid gpt_model_type. Must be v1/);
    assert.match(await reason({ engine_dir: '' }), /names no engine; set the parameter gpt_model_path/);
    assert.match(
      await reason({ decoding_mode: 'medusa' }),
      /decoding_mode medusa of tensorrt_llm is not supported/,
    );
    assert.match(await reason({ triton_max_batch_size: 'x' }), /Expected integer, got: x/);
  });
});
