import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { logLevelFrom } from '../../src/cli/serving/log-level.ts';
import { runCli } from '../support/run-cli.ts';
import { type ServeProcess, startServe } from '../support/serve.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-bench-'));
const file = (name: string): string => join(folder, name);

describe('nereid bench', { concurrency: false }, () => {
  let server: ServeProcess;
  let briton = '';
  before(async () => {
    const flags = [
      '--device',
      'null',
      '--device-option',
      'step-ms=1',
      '--log-level',
      'error',
      '--briton-port',
      '0',
    ];
    server = await startServe('bench-test', flags, { NEREID_TRACER_OUT: file('trace.bin') });
    briton = /on (\S+) \(Briton gRPC\)/.exec(server.log())?.[1] ?? '';
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  test('sweep: a line a level in perf_analyzer’s words, and a report of all', async () => {
    const flags = [
      '--concurrency-range',
      '1:3:2',
      '--measurement-interval',
      '200',
      '--max-trials',
      '4',
      '--output-tokens',
      '4',
    ];
    const run = await runCli(['bench', 'sweep', '--url', server.url, ...flags, '--html', file('sweep.html')]);
    assert.equal(run.code, 0, run.stderr);
    assert.match(
      run.stdout,
      /^Concurrency: 1, throughput: \d+\.\d\d infer\/sec, latency \d+ usec.*\nConcurrency: 3, /,
    );
    assert.match(readFileSync(file('sweep.html'), 'utf8'), /Throughput against concurrency/);
    const rates = await runCli([
      'bench',
      'sweep',
      '--url',
      server.url,
      '--request-rate-range',
      '50',
      ...flags.slice(2),
    ]);
    assert.match(rates.stdout, /^Request Rate: 50, /);
  });

  test("core: benchmark_core_model's lines and table, ids of a distribution and of a dataset", async () => {
    const common = [
      'bench',
      'core',
      '-i',
      'briton',
      '-u',
      briton,
      '--max-input-len',
      '40',
      '--num-requests',
      '20',
    ];
    const normal = await runCli([
      ...common,
      '--request-rate',
      '200',
      'token-norm-dist',
      '--input-mean',
      '30',
      '--input-stdev',
      '20',
      '--output-mean',
      '5',
      '--output-stdev',
      '0',
    ]);
    assert.equal(normal.code, 0, normal.stderr);
    assert.match(
      normal.stdout,
      /\[INFO\] Warm up for benchmarking\.\n[\s\S]*\[INFO\] Start benchmarking on 20 prompts\.\n\[INFO\] Total Latency: [\d.]+ ms\n\[INFO\] Total request latencies: [\d.]+ ms/,
    );
    assert.match(normal.stdout, /\| +Stat +\| +Value +\|/);
    assert.match(normal.stdout, /Avg\. OP tokens per request \| +5\.00/);
    assert.match(normal.stdout, /Total requests +\| +20\.00/);
    const rows = [
      { instruction: 'Say', input: 'it.', output: 'one two three four' },
      { instruction: 'long '.repeat(200), output: 'x' },
    ];
    writeFileSync(file('data.json'), JSON.stringify(rows));
    const dataset = await runCli([
      ...common,
      'dataset',
      '--dataset',
      file('data.json'),
      '--tokenizer-dir',
      'models/nereid-16m',
    ]);
    assert.equal(dataset.code, 0, dataset.stderr);
    assert.match(
      dataset.stdout,
      /Avg\. OP tokens per request \| +5\.00/,
      'four words × 1.3, and the long prompt left out',
    );
  });

  test('identity: three lines', async () => {
    const run = await runCli(['bench', 'identity', '--url', server.url, '-b', '4', '-o', '5', '-p', '2']);
    assert.match(
      run.stdout,
      /^\[INFO\] Batch size: 4, Start len: 8, Output len: 5\n\[INFO\] Latency: [\d.]+ ms\n\[INFO\] Throughput: [\d.]+ sentences \/ sec\n$/,
    );
  });

  test('reports: runs side by side with ratios; one HTML file that fetches nothing, with the steps of a trace', async () => {
    for (const label of ['before', 'after <b>']) {
      const run = await runCli([
        'load',
        '--url',
        server.url,
        '-n',
        '20',
        '--output-tokens',
        '6',
        '--ignore-eos',
        '--label',
        label,
        '-o',
        file(`${label[0]}.json`),
        '--html',
        file('one.html'),
      ]);
      assert.equal(run.code, 0, run.stderr);
    }
    const report = await runCli([
      'bench',
      'report',
      file('b.json'),
      file('a.json'),
      '--html',
      file('report.html'),
      '--trace',
      file('trace.bin'),
    ]);
    assert.equal(report.code, 0, report.stderr);
    assert.match(report.stdout, /output tokens\/s .* \(× \d+\.\d\d\)/);
    const html = readFileSync(file('report.html'), 'utf8');
    assert.match(html, /after &#60;b&#62;/);
    assert.match(html, /TTFT over time/);
    assert.match(html, /COMPUTE/);
    assert.doesNotMatch(html, /<script|src=|href=|https?:\/\/(?!127\.0\.0\.1)|NaN|Infinity|undefined/);
    writeFileSync(file('other.json'), '{}');
    const wrong = await runCli(['bench', 'report', file('other.json')]);
    assert.match(wrong.stderr, /no result of this version.*LOAD_RESULT_INVALID/);
  });
});

test('log levels of the environment', () => {
  assert.equal(logLevelFrom({}), 'info');
  assert.equal(logLevelFrom({ NEREID_LOG_LEVEL: 'WARN', GRPC_VERBOSITY: 'debug' }), 'warn');
  assert.equal(logLevelFrom({ GRPC_VERBOSITY: 'NONE', TLLM_LOG_LEVEL: 'TRACE' }), 'silent');
  assert.equal(logLevelFrom({ TLLM_LOG_LEVEL: 'TRACE' }), 'debug');
  assert.equal(logLevelFrom({ TLLM_LOG_LEVEL: 'odd' }), 'info');
  assert.throws(() => logLevelFrom({ NEREID_LOG_LEVEL: 'loud' }), { code: 'CLI_VALUE_INVALID' });
});
