import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { readBritonConfig } from '../../src/cli/serving/briton-config.ts';
import type { ResultFile } from '../../src/load/report/result-json.ts';
import { britonPortDefault } from '../../src/protocol/briton/limits.ts';
import { runCli } from '../support/run-cli.ts';
import { type ServeProcess, startServe } from '../support/serve.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-briton-'));

function file(text: string): string {
  const path = join(folder, 'briton_config.pbtxt');
  writeFileSync(path, text);
  return path;
}

test('a BritonConfig becomes options, and says what of it changes nothing', () => {
  const { options, adapters, notes } = readBritonConfig(
    file(`
      # as the Python layer writes it
      engine_path: "/engines/llama"
      hf_tokenizer: "/engines/llama/tokenizer/tokenizer.json"
      batch_scheduler_policy: MAX_UTILIZATION
      enable_kv_cache_reuse: false, enable_chunked_context: true
      max_tokens_in_paged_kv_cache: 4096;
      kv_cache_free_gpu_mem_fraction: 0.9
      kv_cache_host_memory_bytes: 1000000
      enable_trt_overlap: false
      max_num_tokens: 1024
      lora_cache_max_adapter_size: 32
      lora_cache_host_memory_bytes: 1000
      fsm_cache_dir: "/cache"
      added_tokens { tokens { content: "<x>" special: true } }
    `),
  );
  assert.deepEqual(options, {
    britonPort: britonPortDefault,
    models: ['/engines/llama'],
    tokenizerFolder: '/engines/llama/tokenizer',
    capacityPolicy: 'max_utilization',
    prefixReuse: false,
    kvTokensMax: 4096,
    kvMemoryShare: 0.9,
    kvHostCacheBytes: 1_000_000,
    stepsInFlight: 1,
    britonSchemas: '/cache',
    maxBatchTokens: 1024,
  });
  assert.deepEqual(adapters, { rankMax: 32, hostBytesMax: 1000 });
  assert.deepEqual(
    notes.map((note) => note.split(' ')[0]),
    ['added_tokens'],
  );
});

test('a BritonConfig that is none says what and where', () => {
  const cases: [string, RegExp][] = [
    ['engine_pth: "x"', /no field 'engine_pth'; did you mean 'engine_path'/],
    ['port: maybe', /port takes an integer/],
    ['enable_trt_overlap: 7', /true or false/],
    ['batch_scheduler_policy: FAST', /MAX_UTILIZATION or GUARANTEED_NO_EVICT/],
    ['kv_cache_free_gpu_mem_fraction: 2', /share above 0/],
    ['hf_tokenizer: "/x/vocab.txt"', /tokenizer\.json/],
    ['engine_path: 5', /text in quotes/],
    ['port: 1 port: 2', /one value/],
    ['port', /1:5/],
  ];
  for (const [text, message] of cases)
    assert.throws(() => readBritonConfig(file(text)), { code: 'BRITON_CONFIG_INVALID', message }, text);
  assert.throws(() => readBritonConfig(join(folder, 'none')), {
    code: 'BRITON_CONFIG_INVALID',
    message: /ENOENT/,
  });
});

const addressOf = (server: ServeProcess): string => {
  const address = /on (127\.0\.0\.1:\d+) \(Briton gRPC\)/.exec(server.log())?.[1];
  assert.ok(address, server.log());
  return address;
};

const load = (address: string, ...more: string[]) =>
  runCli([
    ...['load', '--target', 'briton', '--url', address, '-n', '12', '-c', '4'],
    ...['--output-tokens', '6', '--input-tokens', '20', ...more, '-o', '-'],
  ]);

test('nereid serve --briton-config: the engine, the port; nereid load talks to it with text and ids; the command line wins', async () => {
  const path = file('engine_path: "nereid-16m"\nport: 1\nmax_tokens_in_paged_kv_cache: 3000');
  const flags = ['--briton-config', path, '--briton-port', '0', '--device', 'null', '--log-level', 'error'];
  const server = await startServe('briton-test', flags, {}, []);
  try {
    const address = addressOf(server);
    const tokenizer = join(packageRoot, 'models', 'nereid-16m');
    for (const more of [[], ['--token-ids'], ['--detokenize', '--tokenizer', tokenizer]]) {
      const run = await load(address, ...more);
      assert.equal(run.code, 0, run.stderr);
      const result = JSON.parse(run.stdout) as ResultFile;
      assert.equal(result.completed, 12, more.join(' '));
      assert.equal(result.total_output_tokens, 72);
    }
    const refused = await load(address, '--temperature', '-1');
    assert.equal(refused.code, 2);
    const tooLong = await load(address, '--input-tokens', '4000');
    assert.match(tooLong.stderr, /failed a warm-up request: INVALID_ARGUMENT: .*LOAD_TARGET_REFUSED/);
  } finally {
    assert.equal(await server.stop(), 0);
  }
});

test('several front ends share the port; the metrics count the requests of all', async () => {
  const flags = ['--front-ends', '2', '--briton-port', '0', '--metrics-port', '0', '--device', 'null'];
  const server = await startServe('briton-front-ends-test', [...flags, '--log-level', 'error']);
  try {
    const run = await load(addressOf(server), '--channels', '4', '--warmup', '0');
    assert.equal(run.code, 0, run.stderr);
    assert.equal((JSON.parse(run.stdout) as ResultFile).completed, 12);
    const metricsUrl = /curl (\S+\/metrics)/.exec(server.log())?.[1] ?? '';
    const metrics = await (await fetch(metricsUrl)).text();
    const counts = [...metrics.matchAll(/^vllm:request_success_total\{.*\} (\d+)$/gm)];
    assert.equal(
      counts.reduce((sum, [, count]) => sum + Number(count), 0),
      12,
    );
  } finally {
    assert.equal(await server.stop(), 0);
  }
});

test('without a model there is nothing to serve', async () => {
  const run = await runCli(['serve', '--model-repository', folder, '--briton-port', '0']);
  assert.match(run.stderr, /name one on the command line.*CLI_VALUE_INVALID/);
});

after(() => rmSync(folder, { recursive: true }));
