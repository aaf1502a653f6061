import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { serveArguments } from '../../src/cli/launch-run.ts';
import { promptOf } from '../openai/test-server.ts';
import { runCli } from '../support/run-cli.ts';
import { type TritonServer, tritonServer } from '../triton/test-server.ts';
import { type EngineModels, engineModels } from './engine-models.ts';
import { identityConfig, ModelFolder } from './model-folder.ts';

const says = 'chef and a cook. ';
const prompt = promptOf(says);

describe('nereid client', () => {
  let models: EngineModels;
  let server: TritonServer;
  let url: string;
  let tokenizer: string;
  before(async () => {
    models = await engineModels({ says, stepMs: 2, values: { exclude_input_in_output: 'false' } });
    server = await tritonServer({ repository: models.repository });
    url = `localhost:${server.grpcPort}`;
    tokenizer = join(models.folder, '..', 'tokenizer');
  });
  after(async () => {
    await server.close();
    await models.close();
  });

  test('inflight: prints what the original prints, and checks', async () => {
    const expected = join(models.folder, '..', 'expected.csv');
    writeFileSync(expected, [...Buffer.from(`${prompt}chef`)].join(','));
    const base = ['client', 'inflight', '-u', url, '--tokenizer-dir', tokenizer, '--text', prompt];
    const whole = await runCli([...base, '--request-output-len', '4', '-c', '--output-tokens-csv', expected]);
    assert.equal(whole.stderr, '');
    assert.match(whole.stdout, /^Using pad_id: 50256\nUsing end_id: 256\nInput sequence: {2}\[46, /);
    assert.match(
      whole.stdout,
      /Got completed request\nInput: \.+\nOutput beam 0: chef\nOutput sequence: {2}\[46, /,
    );
    assert.match(whole.stdout, /PASS!\n$/);
    const streamed = await runCli([...base, '-S', '--request-output-len', '8', '--exclude-input-in-output']);
    assert.match(streamed.stdout, /Output beam 0: chef and\n/);
    const logits = ['--return-context-logits', '--return-generation-logits', '-S'];
    const shown = await runCli([...base, ...logits, '--request-output-len', '2']);
    assert.match(shown.stdout, new RegExp(`^context_logits.shape: \\(1, ${prompt.length}, \\d+\\)$`, 'm'));
    assert.match(shown.stdout, /^generation_logits.shape: \(1, 1, 1, \d+\)$/m);
    writeFileSync(expected, '1,2,3');
    const wrong = await runCli([...base, '--request-output-len', '4', '-c', '--output-tokens-csv', expected]);
    assert.match(wrong.stdout, /FAIL!/);
    assert.equal(wrong.code, 1);
  });

  test('inflight: stops early, by a request and by a cancel', async () => {
    const base = ['client', 'inflight', '-u', url, '--tokenizer-dir', tokenizer, '--text', prompt];
    const long = [...base, '-S', '--request-output-len', '1900', '--stop-after-ms', '300'];
    const stopped = await runCli(long);
    assert.equal(stopped.code, 0, stopped.stderr);
    assert.match(stopped.stdout, /Got cancellation response from server/);
    assert.match(stopped.stdout, /Output sequence/);
    const cancelled = await runCli([...long, '--stop-via-request-cancel']);
    assert.match(cancelled.stdout, /Request is cancelled/);
  });

  test('gpt: one text, and how long it took', async (context) => {
    const gpt = await engineModels({ says, group: 'gpt' });
    context.after(() => gpt.close());
    const own = await tritonServer({ repository: gpt.repository });
    context.after(() => own.close());
    const flags = [
      '-u',
      `localhost:${own.grpcPort}`,
      '--tokenizer_dir',
      tokenizer,
      '-t',
      prompt,
      '--output_len=8',
    ];
    const { code, stdout, stderr } = await runCli(['client', 'gpt', ...flags]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^\[INFO\] Latency: \d+\.\d{3} ms\nInput: \.+\nOutput: chef and\n$/);
  });

  test('gen-input-data: what perf_analyzer takes', async () => {
    const path = join(models.folder, '..', 'input_data.json');
    const flags = ['--num-samples', '3', '-s', '4', '-o', '2', '--output', path];
    const { code, stdout } = await runCli(['client', 'gen-input-data', ...flags]);
    assert.equal(code, 0, stdout);
    const { data } = JSON.parse(readFileSync(path, 'utf8'));
    assert.equal(data.length, 3);
    assert.deepEqual(data[0].input_ids.shape, [4]);
    assert.ok(
      data[1].input_ids.content.every((id: number) => Number.isInteger(id) && id >= 0 && id < 50_255),
    );
    assert.deepEqual(data[2].request_output_len, { content: [2], shape: [1] });
  });

  test('e2e: texts of the ensemble and of BLS', async () => {
    for (const model of ['ensemble', 'tensorrt_llm_bls']) {
      const base = ['client', 'e2e', '-u', url, '--model-name', model, '-p', prompt, '-o', '8'];
      const streamed = await runCli([...base, '-S', '--check-outputs', '--expected-outputs', 'chef and']);
      assert.equal(streamed.stdout, '0: chef and\n', streamed.stderr);
      const whole = await runCli([...base, '--exclude-input-in-output', '--stop-words', 'ef']);
      assert.equal(whole.stdout, '0: chef\n', whole.stderr);
    }
    const refused = await runCli(['client', 'e2e', '-u', url, '-p', prompt, '--model-name', 'nope']);
    assert.match(refused.stderr, /Request for unknown model: 'nope' is not found.*\[REQUEST_REFUSED\]/);
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

describe('nereid launch', () => {
  test('hands the original’s flags on', () => {
    const flags = {
      world_size: 1,
      model_repo: '/models',
      grpc_port: 1,
      http_port: 2,
      metrics_port: 3,
      logFile: 'x',
      mpi: true,
    };
    assert.deepEqual(serveArguments(flags), [
      'serve',
      '--model-repository=/models',
      '--grpc-port=1',
      '--http-port=2',
      '--metrics-port=3',
    ]);
    const all = serveArguments({ ...flags, log: true, exit_timeout: 5, tritonserver: '/x' });
    assert.deepEqual(all.slice(-2), ['--drain-seconds=5', '--log-level=debug']);
    assert.equal(all[0], '--model-repository=/models');
  });

  test('starts a server that goes on when it returns', async () => {
    const folder = new ModelFolder({ 'm/config.pbtxt': identityConfig, 'm/1/x': '' });
    const [http, grpc, metrics] = await Promise.all([freePort(), freePort(), freePort()]);
    const flags = ['--http_port', `${http}`, '--grpc_port', `${grpc}`, '--metrics_port', `${metrics}`];
    const log = join(folder.path, 'log.txt');
    const launched = await runCli([
      'launch',
      '--model_repo',
      folder.path,
      ...flags,
      '--log',
      '--log-file',
      log,
    ]);
    assert.equal(launched.code, 0, launched.stderr);
    const pid = Number(launched.stdout);
    try {
      const ready = async (): Promise<boolean> =>
        fetch(`http://127.0.0.1:${http}/v2/models/m/ready`).then(
          ({ status }) => status === 200,
          () => false,
        );
      const deadlineMs = performance.now() + 120_000;
      while (!(await ready()) && performance.now() < deadlineMs) await sleep(100);
      assert.ok(await ready(), readFileSync(log, 'utf8'));
    } finally {
      process.kill(pid, 'SIGTERM');
      folder.remove();
    }
  });

  test('refuses what cannot be', async () => {
    const missing = await runCli(['launch', '--model_repo', '/no/such/folder']);
    assert.match(missing.stderr, /--model_repo \/no\/such\/folder does not exist/);
    const both = await runCli(['launch', '--multi-model', '--world_size', '2', '--model_repo', '.']);
    assert.match(both.stderr, /--world_size must be 1 with --multi-model/);
  });
});
