import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ResultFile } from '../../src/load/report/result-json.ts';
import { type CliOutcome, runCli } from '../support/run-cli.ts';
import { type ServeProcess, startServe } from '../support/serve.ts';
import { answeredInferences, interruptOnceAnswered } from './interrupt.ts';

/** The load tools against KServe's protocols: a served model (decoupled) over gRPC and generate, a repository that is not over HTTP's infer. */
const folder = mkdtempSync(join(tmpdir(), 'nereid-kserve-load-'));
const device = [
  '--device',
  'null',
  '--device-option',
  'step-ms=1',
  '--log-level',
  'error',
  '--grpc-port',
  '0',
];
const tokenizer = ['--tokenizer-dir', 'models/nereid-16m'];
const dataset = join(folder, 'prompts.json');

function grpcOf(server: ServeProcess): string {
  return /GRPCInferenceService at (\S+)/.exec(server.log())?.[1] ?? '';
}

/** Of the prompts that Ctrl-C is tried with: more than anybody waits for. */
const manyPrompts = 20_000;

describe('load over KServe', { concurrency: false }, () => {
  let served: ServeProcess;
  let whole: ServeProcess;
  before(async () => {
    writeFileSync(
      dataset,
      JSON.stringify([
        { instruction: 'What is a lighthouse?', input: '', output: 'a tower with a light' },
        { instruction: 'Name three.', input: 'Animals:', output: 'dog cat bird' },
        { instruction: 'long '.repeat(100), input: '', output: 'x' },
      ]),
    );
    const repository = join(folder, 'repository');
    const created = await runCli([
      ...['repo', 'create', repository, '--engine', 'nereid-16m', '--set', 'decoupled_mode=false'],
    ]);
    assert.equal(created.code, 0, created.stderr);
    const flags = [...device, '--model-repository', repository];
    [served, whole] = await Promise.all([
      startServe('kserve-load-test', device),
      startServe('kserve-load-test', flags, {}, []),
    ]);
  });
  after(async () => {
    await Promise.all([served?.stop(), whole?.stop()]);
    rmSync(folder, { recursive: true });
  });

  function load(flags: readonly string[]): Promise<CliOutcome> {
    const common = ['-n', '8', '-c', '4', '--output-tokens', '6', '--ignore-eos'];
    return runCli(['load', ...common, ...flags, '-o', join(folder, 'load.json')]);
  }

  async function tokensOf(flags: readonly string[]): Promise<number> {
    const run = await load(flags);
    assert.equal(run.code, 0, run.stderr);
    const file = JSON.parse(readFileSync(join(folder, 'load.json'), 'utf8')) as ResultFile;
    assert.equal(file.completed, 8, run.stdout);
    return file.total_output_tokens as number;
  }

  test('every target gets its answers, and counts their tokens', async () => {
    const grpc = ['--target', 'kserve-grpc', '-u', grpcOf(served)];
    assert.equal(await tokensOf(grpc), 48, 'a response a token');
    assert.equal(await tokensOf([...grpc, '--token-ids']), 48);
    assert.equal(await tokensOf([...grpc, '--token-ids', '--no-stream']), 48, 'without the prompt');
    assert.equal(await tokensOf(['--target', 'triton-generate', '-u', served.url]), 48);
    const http = ['--target', 'kserve-http', '-u', whole.url];
    assert.equal(await tokensOf([...http, '--token-ids']), 48);
    assert.equal(
      await tokensOf(['--target', 'kserve-grpc', '-u', grpcOf(whole), '--token-ids', '--no-stream']),
      48,
    );
  });

  test('decoupled models over HTTP: the error says what to do', async () => {
    const run = await load(['--target', 'kserve-http', '-u', served.url]);
    assert.equal(run.code, 1);
    assert.match(run.stderr, /decoupled.*use gRPC.*LOAD_TARGET_REFUSED/);
  });

  for (const [name, flags, server] of [
    ['gRPC, in pieces, BLS too', ['--streaming', '--test-bls'], () => ['-u', grpcOf(served)]],
    ['HTTP', [], () => ['-i', 'http', '-u', whole.url]],
  ] as const) {
    test(`e2e: end_to_end_test's lines (${name})`, async () => {
      const run = await runCli([
        ...['bench', 'e2e', '--dataset', dataset, '--max-input-len', '40', ...tokenizer],
        ...flags,
        ...server(),
      ]);
      assert.equal(run.code, 0, run.stderr);
      assert.match(
        run.stdout,
        /^\[INFO\] Start testing on 2 prompts\.\n\[INFO\] Functionality test succeed\.\n\[INFO\] Warm up for benchmarking\.\n\[INFO\] Start benchmarking on 2 prompts\.\n\[INFO\] Total Latency: [\d.]+ ms\n\[INFO\] Total request latencies: [\d.]+ ms\n$/,
      );
    });
  }

  test('Ctrl-C ends core and e2e with the figures so far', async () => {
    const answered = (): Promise<number> => answeredInferences(served.url, 'tensorrt_llm');
    const core = await runCli(
      [
        ...[
          'bench',
          'core',
          '-u',
          grpcOf(served),
          '--num-requests',
          String(manyPrompts),
          '--request-rate',
          '100',
        ],
        ...['--max-input-len', '300', 'token-from-histogram', '--histogram-key', 'example'],
      ],
      { onStart: (child) => void interruptOnceAnswered(child, answered) },
    );
    assert.equal(core.code, 130, core.stderr);
    const total = Number(/Total requests +\| +(\d+)/.exec(core.stdout)?.[1]);
    assert.ok(total > 0 && total < manyPrompts, core.stdout);

    const many = join(folder, 'many.json');
    const prompt = { instruction: 'What is a lighthouse?', input: '', output: 'a tower with a light' };
    writeFileSync(many, JSON.stringify(Array.from({ length: manyPrompts }, () => prompt)));
    const e2e = await runCli(
      ['bench', 'e2e', '--dataset', many, '--max-input-len', '40', ...tokenizer, '-u', grpcOf(served)],
      { onStart: (child) => void interruptOnceAnswered(child, answered) },
    );
    assert.equal(e2e.code, 130, e2e.stderr);
    assert.match(e2e.stdout, /^\[INFO\] Start testing on 20000 prompts\.\n/);
  });

  test('core: lengths of the histogram, over gRPC and HTTP', async () => {
    for (const server of [
      ['-u', grpcOf(served)],
      ['-i', 'http', '-u', whole.url],
    ]) {
      const common = ['bench', 'core', ...server, '--max-input-len', '300', '--num-requests', '40'];
      const run = await runCli([...common, 'token-from-histogram', '--histogram-key', 'example']);
      assert.equal(run.code, 0, run.stderr);
      const value = (row: string): number =>
        Number(new RegExp(`${row} +\\| +([\\d.]+)`).exec(run.stdout)?.[1]);
      const input = value('Avg\\. IP tokens per request');
      assert.ok(input >= 151 && input <= 275, run.stdout);
      assert.ok(value('Avg\\. OP tokens per request') <= 30, run.stdout);
      assert.equal(value('Total requests'), 40);
    }
  });
});
