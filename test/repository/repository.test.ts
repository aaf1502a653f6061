import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RepositoryError } from '../../src/repository/errors.ts';
import type { InferRequest, Model } from '../../src/repository/model.ts';
import { tensorOf, valuesOf } from '../../src/repository/tensor.ts';
import { eventually } from '../openai/test-server.ts';
import { identityConfig, inferAll, repeatConfig, testRepository } from './model-folder.ts';

const placeholder = { 'm/1/.keep': '' };
const numbers = (...values: number[]) =>
  tensorOf('INPUT0', 'INT32', [1, values.length], Int32Array.from(values));

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof RepositoryError, String(error));
    return `${error.status} ${error.message}`;
  }
  return 'nothing';
}

describe('a repository', () => {
  test('serves the versions that the policy says', async () => {
    const policy = (text: string) => ({
      'm/config.pbtxt': `${identityConfig} ${text}`,
      'm/1/x': '',
      'm/3/x': '',
      'm/02/x': '',
      'm/12/x': '',
    });
    const served = async (text: string) => {
      const { repository, close } = await testRepository(policy(text));
      const versions = repository.index(true).map(({ version }) => version);
      const metadata = repository.model('m').metadata.versions;
      await close();
      assert.deepEqual(metadata, versions);
      return versions;
    };
    assert.deepEqual(await served(''), ['12']);
    assert.deepEqual(await served('version_policy { latest { num_versions: 2 } }'), ['3', '12']);
    assert.deepEqual(await served('version_policy { all { } }'), ['1', '3', '12']);
    assert.deepEqual(await served('version_policy { specific { versions: [ 1, 3, 7 ] } }'), ['1', '3']);
  });

  test('answers, counts and shows metadata', async () => {
    const { repository, close } = await testRepository({ 'm/config.pbtxt': identityConfig, ...placeholder });
    const model = repository.model('m');
    const [response] = await inferAll(model, { inputs: [numbers(4, 5)] });
    assert.deepEqual([...valuesOf(response!.outputs[0]!, 'INT32')], [4, 5]);
    assert.deepEqual(model.metadata, {
      name: 'm',
      versions: ['1'],
      platform: 'identity',
      inputs: [{ name: 'INPUT0', datatype: 'INT32', shape: [-1, -1] }],
      outputs: [{ name: 'OUTPUT0', datatype: 'INT32', shape: [-1, -1] }],
    });
    const [statistics] = repository.statistics('m');
    assert.equal(statistics?.inference_count, 1);
    assert.equal(statistics?.execution_count, 1);
    assert.equal(statistics?.pendingRequests, 0);
    const { success, queue, compute_input, compute_infer, compute_output } = statistics!.inference_stats;
    assert.equal(success.count, 1);
    const parts = queue.ns + compute_input.ns + compute_infer.ns + compute_output.ns;
    assert.ok(parts <= success.ns && parts > success.ns * 0.5, `${parts} of ${success.ns}`);
    await close();
  });

  test('refuses requests in Triton’s words', async () => {
    const { repository, close } = await testRepository({
      'm/config.pbtxt': `${identityConfig} input { name: "b" data_type: TYPE_STRING dims: [ 1 ] optional: true }`,
      ...placeholder,
    });
    const model: Model = repository.model('m');
    const refused = (request: Partial<InferRequest>) =>
      refusal(() => model.infer({ id: 'r', inputs: [], parameters: {}, ...request }, { respond: () => {} }));
    assert.equal(
      refused({}),
      "INVALID_ARGUMENT [request id: r] expected number of inputs between 1 and 2 but got 0 inputs for model 'm'. " +
        "Got input(s) [], but missing required input(s) ['INPUT0']. Please provide all required input(s).",
    );
    assert.match(refused({ id: '' }), /^INVALID_ARGUMENT \[request id: <id_unknown>\] /);
    const good = numbers(1);
    assert.match(
      refused({ inputs: [good, { ...good, name: 'x' }] }),
      /ARGUMENT unexpected inference input 'x' for model 'm'/,
    );
    assert.match(
      refused({ inputs: [good], outputs: ['x'] }),
      /unexpected inference output 'x' for model 'm'/,
    );
    assert.match(refused({ inputs: [good, good] }), /input 'INPUT0' already exists in request/);
    assert.match(
      refused({ inputs: [{ ...good, datatype: 'FP32' }] }),
      /inference input 'INPUT0' data-type is 'FP32', but model 'm' expects 'INT32'/,
    );
    assert.match(
      refused({ inputs: [{ ...good, shape: [1] }] }),
      /unexpected shape for input 'INPUT0' for model 'm'. Expected \[-1,-1\], got \[1\]. NOTE: Setting a non-zero/,
    );
    assert.match(
      refused({ inputs: [tensorOf('INPUT0', 'INT32', [9, 1], new Int32Array(9))] }),
      /inference request batch-size must be <= 8 for 'm'/,
    );
    assert.match(
      refused({ inputs: [{ ...good, shape: [1, 2] }] }),
      /input byte size mismatch for input 'INPUT0' for model 'm'. Expected 8, got 4/,
    );
    const text = { name: 'b', datatype: 'BYTES', shape: [2, 1], data: new Uint8Array(8) } as const;
    assert.match(
      refused({ inputs: [good, text] }),
      /input 'b' batch size does not match other inputs for 'm'/,
    );
    assert.match(
      refused({ inputs: [good, { ...text, shape: [1, 1] }] }),
      /unexpected number of string elements 2/,
    );
    assert.match(
      refused({ inputs: [{ ...good, shape: [1, 2 ** 60] }] }),
      /unexpected shape|byte size mismatch/,
    );
    await close();
  });

  test('names and versions that are not there', async () => {
    const { repository, close } = await testRepository({ 'm/config.pbtxt': identityConfig, ...placeholder });
    assert.equal(
      refusal(() => repository.model('x')),
      "NOT_FOUND Request for unknown model: 'x' is not found",
    );
    assert.match(
      refusal(() => repository.model('m', '2')),
      /NOT_FOUND .*'m' version 2 is not found/,
    );
    assert.match(
      refusal(() => repository.model('m', 'abc')),
      /INVALID_ARGUMENT failed to get model version/,
    );
    assert.equal(repository.isModelReady('m'), true);
    assert.equal(repository.isModelReady('x'), false);
    assert.match(
      refusal(() => repository.statistics('x')),
      /INVALID_ARGUMENT requested model 'x' is not available/,
    );
    await assert.rejects(
      repository.load('m'),
      /explicit model load \/ unload is not allowed if polling is enabled/,
    );
    await close();
  });

  test('one model that cannot load does not keep the others from it', async () => {
    const { repository, close } = await testRepository({
      'm/config.pbtxt': identityConfig,
      ...placeholder,
      'broken/config.pbtxt': 'max_batch_size: x',
      'empty/config.pbtxt': identityConfig,
      'strange/config.pbtxt': 'backend: "tensorflow"',
      'strange/1/x': '',
    });
    assert.equal(repository.isModelReady('m'), true);
    assert.equal(repository.isReady, false);
    const reasons = Object.fromEntries(repository.failures().map(({ name, reason }) => [name, reason]));
    assert.match(reasons.broken ?? '', /config.pbtxt: 1:17: Expected integer, got: x/);
    assert.match(reasons.empty ?? '', /at least one version must be available .* needs a folder named 1/);
    assert.match(reasons.strange ?? '', /unable to find backend library for backend 'tensorflow'/);
    assert.equal(repository.index(false).find(({ name }) => name === 'broken')?.state, 'UNAVAILABLE');
    await close();
  });

  test('explicit mode: load, override, reload, unload', async () => {
    const { repository, folder, close } = await testRepository(
      { 'm/config.pbtxt': identityConfig, ...placeholder },
      { controlMode: 'explicit' },
    );
    assert.deepEqual(repository.index(false), [{ name: 'm', version: '', state: '', reason: '' }]);
    assert.equal(repository.isReady, true);
    await repository.load('m');
    const first = repository.model('m');
    await repository.load('m');
    assert.equal(repository.model('m'), first, 'nothing changed');
    await repository.load('m', { config: JSON.stringify({ ...first.config, max_batch_size: 2 }) });
    assert.equal(repository.model('m').config.max_batch_size, 2);
    await assert.rejects(
      repository.load('m', { config: '{"max_batch_size": -1, "backend": "identity"}' }),
      /failed to load 'm', failed to poll from model repository: 'max_batch_size' must be non-negative/,
    );
    assert.equal(repository.model('m').config.max_batch_size, 2, 'a failed reload leaves what was there');
    await repository.load('m');
    assert.equal(repository.model('m').config.max_batch_size, 2, 'the folder is as it was');
    folder.write('m/config.pbtxt', `${identityConfig} metric_tags { key: "a" value: "b" }`);
    await repository.load('m');
    assert.deepEqual(repository.model('m').config.metric_tags, { a: 'b' });
    await repository.unload('m');
    assert.match(
      refusal(() => repository.model('m')),
      /'m' has no available versions/,
    );
    await eventually(() => repository.index(false)[0]?.state === 'UNAVAILABLE', 'unloaded');
    assert.deepEqual(repository.index(false), [
      { name: 'm', version: '1', state: 'UNAVAILABLE', reason: 'unloaded' },
    ]);
    await assert.rejects(repository.load('x'), /failed to load 'x', failed to poll from model repository/);
    folder.write('bad/config.pbtxt', 'oops');
    await assert.rejects(
      repository.load('bad'),
      /failed to load 'bad', failed to poll from model repository: .*1:5/,
    );
    assert.equal(repository.isReady, true, 'a failed wish takes nothing from the server');
    await close();
  });

  test('files of a load request', async () => {
    const { repository, close } = await testRepository({}, { controlMode: 'explicit' });
    const config = JSON.stringify({
      backend: 'identity',
      input: [{ name: 'INPUT0', data_type: 'TYPE_INT32', dims: [-1] }],
      output: [{ name: 'OUTPUT0', data_type: 'TYPE_INT32', dims: [-1], label_filename: 'labels.txt' }],
    });
    const files = { 'labels.txt': Buffer.from('a\nb\n'), '5/x': new Uint8Array(0) };
    await assert.rejects(
      repository.load('m', { files }),
      /failed to load 'm', failed to poll from model repository/,
    );
    await assert.rejects(
      repository.load('m', { config, files: { '../x': new Uint8Array(0) } }),
      /inside the model's folder/,
    );
    await assert.rejects(
      repository.load('m', { config, files: { [`1/${'x'.repeat(300)}`]: new Uint8Array(0) } }),
      /at most 255 bytes/,
    );
    await repository.load('m', { config, files });
    assert.equal(repository.model('m').version, '5');
    assert.deepEqual(repository.model('m').labels('OUTPUT0'), ['a', 'b']);
    await close();
  });

  test('poll mode sees what appears, changes and goes', async () => {
    const { repository, folder, close } = await testRepository(
      { 'm/config.pbtxt': identityConfig, ...placeholder },
      { controlMode: 'poll', pollSeconds: 3600 },
    );
    folder.write('n/config.pbtxt', identityConfig);
    folder.write('n/1/x', '');
    folder.write('m/2/x', '');
    await repository.poll();
    assert.equal(repository.isModelReady('n'), true);
    assert.equal(repository.model('m').version, '2');
    folder.delete('m');
    await repository.poll();
    assert.match(
      refusal(() => repository.model('m')),
      /is not found/,
    );
    await close();
  });

  test('an unload waits for running requests, then cancels them', async () => {
    const { repository, close } = await testRepository(
      { 'm/config.pbtxt': repeatConfig, ...placeholder },
      { controlMode: 'explicit', loadModels: ['*'], drainMs: 60_000 },
    );
    const inputs = [
      tensorOf('IN', 'INT32', [2], Int32Array.of(1, 2)),
      tensorOf('DELAY', 'UINT32', [2], Uint32Array.of(30, 30)),
    ];
    const running = inferAll(repository.model('m'), { inputs });
    await repository.unload('m');
    assert.equal((await running).length, 2);
    await repository.load('m');
    const slow = [inputs[0]!, tensorOf('DELAY', 'UINT32', [2], Uint32Array.of(0, 1e9))];
    const cut = inferAll(repository.model('m'), { inputs: slow });
    const closing = close();
    await assert.rejects(cut, /was unloaded while this request ran/);
    await closing;
  });

  test('warm-up runs before a model is ready, and its failure is the reason', async () => {
    const warm = (dims: string) => `${identityConfig} model_warmup { name: "w" batch_size: 2
      inputs { key: "INPUT0" value { data_type: TYPE_INT32 dims: ${dims} random_data: true } } }`;
    const { repository, close } = await testRepository({ 'm/config.pbtxt': warm('[ 4 ]'), ...placeholder });
    assert.equal(repository.statistics('m')[0]?.inference_count, 2);
    await close();
    const failing = await testRepository({ 'm/config.pbtxt': warm('[ 4, 4 ]'), ...placeholder });
    assert.match(failing.repository.failures()[0]?.reason ?? '', /failed to run warmup sample 'w'/);
    await failing.close();
  });
});
