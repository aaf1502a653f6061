import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ServeProcess, startServe } from '../support/serve.ts';
import { type PerfAnalyzer, perfAnalyzer } from './perf-analyzer.ts';

/** A sweep's longest run; a second or two where nothing else runs. */
const timeoutMs = 240_000;

const output = (folder: string, name: string, value: object): string => {
  const path = join(folder, name);
  writeFileSync(path, JSON.stringify(value));
  return path;
};

/** The parts of each "Avg request latency" line that it prints, µs. */
function serverTimes(text: string): { total: number; overhead: number; parts: number }[] {
  const pattern =
    /Avg request latency: (\d+) usec \(overhead (\d+) usec \+ queue (\d+) usec \+ compute input (\d+) usec \+ compute infer (\d+) usec \+ compute output (\d+) usec\)/g;
  return [...text.matchAll(pattern)].map(([, total, overhead, ...parts]) => ({
    total: Number(total),
    overhead: Number(overhead),
    parts: parts.reduce((sum, part) => sum + Number(part), 0),
  }));
}

describe('perf_analyzer', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-perf-'));
  let found: PerfAnalyzer;
  let server: ServeProcess | undefined;
  let grpc = '';

  before(async () => {
    found = await perfAnalyzer();
    if ('skip' in found) return;
    server = await startServe('foreign-perf', [
      ...['--device', 'null', '--device-option', 'step-ms=5', '--log-level', 'error'],
      ...['--grpc-port', '0', '--metrics-port', '0'],
    ]);
    const port = /Started GRPCInferenceService at \S+:(\d+)/.exec(server.log())?.[1];
    assert.ok(port, server.log());
    grpc = `127.0.0.1:${port}`;
  });
  after(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  /** Runs it; fails where it does, or where it warns of requests that failed. */
  const analyze = async (args: readonly string[]): Promise<string> => {
    assert.ok('path' in found);
    const { path, env } = found;
    const flags = ['-u', grpc, '-i', 'grpc', '--measurement-mode', 'count_windows', '-s', '999'];
    return new Promise((resolve, reject) => {
      execFile(path, [...args, ...flags], { env, timeout: timeoutMs }, (error, stdout, stderr) => {
        const text = `${stdout}${stderr}`;
        if (error || /error|failed/i.test(text)) reject(new Error(`${error?.message ?? ''}\n${text}`));
        else resolve(text);
      });
    });
  };

  for (const model of ['ensemble', 'tensorrt_llm_bls']) {
    test(`sweeps ${model} over gRPC streams; the server's times add up`, async (context) => {
      if ('skip' in found) return context.skip(found.skip);
      const data = { text_input: ['hello there'], max_tokens: [4], stream: [true] };
      const input = output(folder, `${model}.json`, { data: [data] });
      const count = ['--measurement-request-count', '20'];
      const sweep = ['--streaming', '--input-data', input, '--concurrency-range', '1:5:4', ...count];
      const text = await analyze(['-m', model, ...sweep]);
      assert.match(text, /Detected decoupled model/);
      for (const concurrency of [1, 5]) {
        assert.match(text, new RegExp(`Concurrency: ${concurrency}, throughput: \\d`), text);
      }
      const times = serverTimes(text);
      assert.ok(times.length >= 2, text);
      for (const { total, overhead, parts } of times) {
        // It rounds each to a microsecond.
        assert.ok(Math.abs(total - overhead - parts) <= 5, text);
        assert.ok(overhead <= 0.05 * total, text);
      }
    });
  }

  test('token requests with shapes, as gen_input_data.py writes them', async (context) => {
    if ('skip' in found) return context.skip(found.skip);
    const one = (content: number[]) => ({ content, shape: [1] });
    const data = Array.from({ length: 5 }, (_, index) => ({
      input_ids: { content: [5 + index, 6, 7], shape: [3] },
      input_lengths: one([3]),
      request_output_len: one([2]),
    }));
    const input = output(folder, 'tokens.json', { data });
    const sweep = ['--input-data', input, '--concurrency-range', '2', '--request-count', '20'];
    const text = await analyze(['-m', 'tensorrt_llm', '--streaming', ...sweep]);
    assert.match(text, /Concurrency: 2, throughput: \d/);
  });
});
