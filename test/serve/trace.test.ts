import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { phaseNames } from '../../src/trace/phases.ts';
import { TraceFile } from '../../src/trace/reader.ts';
import type { TraceSummary } from '../../src/trace/summary.ts';
import { runCli } from '../support/run-cli.ts';
import { startServe } from '../support/serve.ts';

test('a served request is traced through front end and engine', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-serve-trace-'));
  const path = join(folder, 'trace.bin');
  const flags = ['--device', 'null', '--device-option', 'step-ms=1', '--log-level', 'error'];
  const server = await startServe('trace-test', flags, { BRITON_TRACER_OUT: path });
  try {
    const load = await runCli([
      'load',
      '--url',
      server.url,
      '-n',
      '6',
      '--warmup',
      '0',
      '--output-tokens',
      '5',
      '--ignore-eos',
    ]);
    assert.equal(load.code, 0, load.stderr);
  } finally {
    await server.stop();
  }
  const csv = await runCli(['trace', 'to-csv', path]);
  const rows = csv.stdout
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(','));
  const counts = (name: string): number => rows.filter(([step]) => step === name).length;
  for (const name of ['REQUEST', 'QUEUE', 'PREFILL', 'DECODE']) {
    assert.equal(counts(`${name}_start`), 6, name);
    assert.equal(counts(`${name}_end`), 6, name);
  }
  assert.equal(counts('DETOKENIZE_start'), 30);
  assert.equal(counts('TOKENIZE_end'), 6);
  for (const name of ['STEP', 'ADMISSION', 'SCHEDULE', 'COMPUTE', 'SAMPLE', 'EMIT', 'SEND_RESPONSE'])
    assert.ok(counts(`${name}_end`) > 0, name);
  const requests = new Set(
    rows.filter(([step]) => step === 'SEND_RESPONSE_start').map(([, , request]) => request),
  );
  const queued = new Set(rows.filter(([step]) => step === 'QUEUE_start').map(([, , request]) => request));
  assert.deepEqual(requests, queued, 'both processes name a request alike');
  const summary = await runCli(['trace', 'summary', path, '--json']);
  const { threads, steps } = JSON.parse(summary.stdout) as TraceSummary;
  assert.equal(threads, 2);
  assert.ok(steps >= 5);
  const perfetto = await runCli(['trace', 'to-perfetto', path, join(folder, 'run.json')]);
  assert.match(perfetto.stderr, /wrote \d+ events/);
  const wrong = await runCli(['trace', 'summary', join(folder, 'none.bin')]);
  assert.match(wrong.stderr, /cannot read the trace.*TRACE_FILE_UNREADABLE/);
  rmSync(folder, { recursive: true });
});

test('the real device: recorded graphs, and what is done to logits; killed, what was flushed stays readable', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-serve-trace-'));
  const path = join(folder, 'trace.bin');
  const server = await startServe('trace-test', ['--log-level', 'error'], { NEREID_TRACER_OUT: path });
  try {
    const body = {
      prompt: 'A river',
      max_tokens: 6,
      min_tokens: 4,
      repetition_penalty: 1.3,
      temperature: 0.5,
    };
    const answer = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    assert.equal(answer.status, 200, await answer.text());
    // Both processes have flushed what they did for it.
    const deadline = Date.now() + 60_000;
    while (!seen(path).includes('DECODE') || !seen(path).includes('REQUEST')) {
      assert.ok(Date.now() < deadline, seen(path).join(' '));
      await sleep(50);
    }
  } finally {
    const gone = once(server.child, 'exit');
    server.child.kill('SIGKILL');
    await gone;
  }
  const csv = await runCli(['trace', 'to-csv', path]);
  for (const name of ['RECORD_GRAPH', 'COMPUTE', 'LOGITS_POST_PROCESSOR', 'APPLY_MASK'])
    assert.match(csv.stdout, new RegExp(`^${name}_start,\\d+,[\\s\\S]*^${name}_end,`, 'm'), name);
  assert.match(csv.stdout, /^LOGITS_POST_PROCESSOR_start,\d+,\d+,/m, 'with its request');
  rmSync(folder, { recursive: true });
});

/** The phases that have ended, as the file has them so far. */
function seen(path: string): string[] {
  const trace = new TraceFile(path);
  try {
    const names = new Set<string>();
    for (const { phase, isEnd } of trace.events()) if (isEnd) names.add(phaseNames[phase] ?? '');
    return [...names];
  } finally {
    trace.close();
  }
}
