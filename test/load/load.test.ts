import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ResultFile } from '../../src/load/report/result-json.ts';
import { runCli } from '../support/run-cli.ts';
import { type ServeProcess, startServe } from '../support/serve.ts';
import { answeredChats, interruptOnceAnswered } from './interrupt.ts';
import { recomputed } from './recompute.ts';

/** `nereid load` and `nereid bench` as a user runs them, against `nereid serve` with the null device. */
const folder = mkdtempSync(join(tmpdir(), 'nereid-load-'));

function read(name: string): ResultFile {
  return JSON.parse(readFileSync(join(folder, name), 'utf8')) as ResultFile;
}

describe('load against a server', { concurrency: false }, () => {
  let server: ServeProcess;
  before(async () => {
    server = await startServe('load-test', [
      '--device',
      'null',
      '--device-option',
      'step-ms=2',
      '--log-level',
      'error',
    ]);
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  test('nereid load prints the table and writes the raw log', async () => {
    const flags = ['--concurrency', '4', '--requests', '20', '--output-tokens', '12', '--ignore-eos'];
    const run = await runCli(['load', '--url', server.url, ...flags, '--output', join(folder, 'load.json')]);
    assert.equal(run.code, 0, run.stderr);
    assert.match(run.stdout, /Successful requests: +20 /);
    assert.match(run.stdout, /Mean TPOT \(ms\): +\d/);
    assert.match(run.stdout, /Mean normalized \(ms\): +\d/);
    const file = read('load.json');
    assert.equal(file.completed, 20);
    assert.equal(file.total_output_tokens, 240);
    assert.equal(file.nereid.requests.length, 20);
    const ttfts = file.nereid.requests.map(({ outputMs }) => outputMs[0]!);
    const mean = ttfts.reduce((sum, value) => sum + value, 0) / 20;
    assert.ok(Math.abs((file.mean_ttft_ms as number) - mean) < 1e-6);
  });

  test('nereid bench serving: vLLM names in options and JSON, over both endpoints and two processes', async () => {
    for (const backend of ['openai', 'openai-chat']) {
      const run = await runCli([
        ...['bench', 'serving', '--backend', backend, '--base-url', server.url, '--num-prompts', '30'],
        ...['--request-rate', '200', '--random-input-len', '16', '--random-output-len', '8', '--ignore-eos'],
        ...['--goodput', 'ttft:5000', 'tpot:5000', '--workers', '2', '--metric-percentiles', '50,99'],
        ...['--save-result', '--save-detailed', '--result-dir', folder, '--result-filename', 'serving.json'],
      ]);
      assert.equal(run.code, 0, run.stderr);
      assert.match(run.stdout, /P99 TTFT/);
      const file = read('serving.json');
      assert.deepEqual([file.backend, file.completed, file.request_rate], [backend, 30, 200]);
      assert.equal(file.request_goodput, file.request_throughput);
      assert.ok((file.mean_itl_ms as number) > 0 && 'p50_itl_ms' in file);
      assert.equal((file.ttfts as number[]).length, 30);
      assert.equal((file.itls as number[][])[0]!.length, 7);
    }
  });

  test('every figure of the JSON is that of its raw log', async () => {
    const goodput = { ttft: 30, tpot: 4 };
    const run = await runCli([
      ...['bench', 'serving', '--base-url', server.url, '--num-prompts', '60', '--request-rate', '400'],
      ...['--random-input-len', '16', '--random-output-len', '8', '--random-range-ratio', '0.9'],
      ...[
        '--goodput',
        `ttft:${goodput.ttft}`,
        `tpot:${goodput.tpot}`,
        '--metric-percentiles',
        '1,50,90,99.9',
      ],
      ...['--save-result', '--result-dir', folder, '--result-filename', 'raw.json'],
    ]);
    assert.equal(run.code, 0, run.stderr);
    const file = read('raw.json');
    const expected = recomputed(file.nereid.requests, [1, 50, 90, 99.9], goodput);
    assert.ok(Object.keys(expected).length > 30);
    for (const [field, value] of Object.entries(expected)) {
      const reported = file[field] as number;
      assert.ok(Math.abs(reported - value) <= 1e-9 * Math.max(1, value), `${field}: ${reported} ≠ ${value}`);
    }
  });

  test('Ctrl-C still reports', async () => {
    const run = await runCli(
      [
        'load',
        '--url',
        server.url,
        '--requests',
        '100000',
        '--output-tokens',
        '8',
        '--ignore-eos',
        '--output',
        '-',
      ],
      { onStart: (child) => void interruptOnceAnswered(child, () => answeredChats(server.url)) },
    );
    assert.equal(run.code, 130, run.stderr);
    const file = JSON.parse(run.stdout) as ResultFile;
    assert.ok(file.nereid.isInterrupted);
    assert.ok((file.completed as number) > 0);
  });

  test('Ctrl-C ends a sweep with the levels that it measured', async () => {
    const flags = ['--concurrency-range', '1:64', '--measurement-interval', '60000', '--output-tokens', '4'];
    const run = await runCli(
      ['bench', 'sweep', '-u', server.url, ...flags, '--output', join(folder, 'sweep.json')],
      { onStart: (child) => void interruptOnceAnswered(child, () => answeredChats(server.url)) },
    );
    assert.equal(run.code, 130, run.stderr);
    assert.match(run.stdout, /^Concurrency: 1, .* \(interrupted\)\n$/);
    const [level] = JSON.parse(readFileSync(join(folder, 'sweep.json'), 'utf8')) as ResultFile[];
    assert.ok(level?.nereid.isInterrupted);
    assert.ok((level.completed as number) > 0);
  });

  test('mistakes are one line with the fix', async () => {
    const cases: [string[], RegExp, number][] = [
      [
        ['load', '--url', 'http://127.0.0.1:2'],
        /does not answer \(.*ECONNREFUSED.*start the server.*LOAD_TARGET_UNREACHABLE/,
        1,
      ],
      [
        ['load', '--url', server.url, '--model', 'other'],
        /failed a warm-up request: HTTP 404.*LOAD_TARGET_REFUSED/,
        1,
      ],
      [['load', '--target', 'smtp'], /openai-chat/, 2],
      [['load', '--url', server.url, '--token-ids'], /takes text only/, 2],
      [
        ['bench', 'serving', '--base-url', server.url, '--dataset-name', 'sharegpt'],
        /--dataset-path FILE/,
        2,
      ],
      [['bench', 'serving', '--goodput', 'ttft=3'], /ttft:MS.*see nereid bench serving --help/, 2],
      [['bench', 'serve'], /serving/, 2],
    ];
    for (const [parameters, expected, code] of cases) {
      const run = await runCli(parameters);
      assert.match(run.stderr, expected, parameters.join(' '));
      assert.equal(run.stderr.trim().split('\n').length, 1, run.stderr);
      assert.equal(run.code, code, `${parameters.join(' ')}: ${run.stderr}`);
    }
  });
});
