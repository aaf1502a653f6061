import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../base/entry.ts';
import { eventBytes, headerBytes } from './format.ts';
import { phases } from './phases.ts';
import { traceFileOf } from './process-tracer.ts';
import { type TraceEvent, TraceFile } from './reader.ts';
import { summarizeTrace } from './summary.ts';
import { csvLines } from './to-csv.ts';
import { perfettoParts } from './to-perfetto.ts';
import { segmentEvents, segmentsMax, Tracer } from './tracer.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-trace-'));
after(() => rmSync(folder, { recursive: true }));

function read(path: string): { events: TraceEvent[]; trace: TraceFile } {
  const trace = new TraceFile(path);
  const events = Array.from(trace.events(), (event) => ({ ...event }));
  trace.close();
  return { events, trace };
}

const segmentBytes = headerBytes + segmentEvents * eventBytes;

/** Waits until so much is in the file: what was on its way to it when a tracer was closed comes a little later. */
async function written(path: string, size: number): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (statSync(path).size < size && Date.now() < deadline) await sleep(1);
}

test('what is recorded is read back, in order, with its time, request and step', () => {
  const path = join(folder, 'plain.bin');
  const tracer = new Tracer({ path, role: 'engine', isFirst: true });
  const request = 3 * 2 ** 40 + 7;
  tracer.begin(phases.queue, request);
  tracer.step(41);
  tracer.begin(phases.step);
  tracer.end(phases.step);
  tracer.step(0);
  tracer.end(phases.queue, request);
  const epochNs = BigInt(Date.now()) * 1_000_000n;
  tracer.close();
  const { events, trace } = read(path);
  const seen = events.map(({ phase, isEnd, step, request: id }) => [phase, isEnd, step, id]);
  const expected = [
    [phases.queue, false, 0, request],
    [phases.step, false, 41, -1],
    [phases.step, true, 41, -1],
    [phases.queue, true, 0, request],
  ];
  assert.deepEqual(seen, expected);
  assert.ok(events.every(({ atNs }, i) => i === 0 || atNs >= events[i - 1]!.atNs));
  assert.deepEqual(trace.threads, [{ processId: process.pid, threadId: 0, role: 'engine', lost: 0 }]);
  const offBy = trace.epochNs + BigInt(Math.round(events[3]!.atNs)) - epochNs;
  assert.ok(offBy < 1_000_000_000n && offBy > -1_000_000_000n, `${offBy} ns from the wall clock`);
});

test('many segments, flushed beside the work, lose nothing', async () => {
  const path = join(folder, 'many.bin');
  const tracer = new Tracer({ path, role: 'engine', isFirst: true });
  const rounds = segmentsMax * 2;
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < segmentEvents / 2; i++) {
      tracer.begin(phases.sample, round);
      tracer.end(phases.sample, round);
    }
    // The writer may be slow, but no slower than half of what the ring holds.
    const least = (round - segmentsMax / 2) * segmentEvents * eventBytes;
    while (statSync(path).size < least) await sleep(1);
  }
  tracer.close();
  await written(path, rounds * segmentBytes);
  const { events, trace } = read(path);
  assert.equal(trace.threads[0]!.lost, 0);
  assert.equal(events.length, rounds * segmentEvents);
});

test('a ring that nobody empties counts what it loses, and so does a full file', async () => {
  const path = join(folder, 'full.bin');
  const ring = segmentEvents * segmentsMax;
  const tracer = new Tracer({ path, role: 'engine', isFirst: true });
  for (let i = 0; i < ring + 1000; i++) tracer.begin(phases.sample);
  await written(path, segmentsMax * segmentBytes);
  tracer.begin(phases.sample);
  tracer.close();
  await written(path, segmentsMax * segmentBytes + headerBytes + eventBytes);
  const { trace } = read(path);
  assert.equal(trace.eventCount, ring + 1);
  assert.equal(trace.threads[0]!.lost, 1000);

  const small = join(folder, 'small.bin');
  const bytesMax = headerBytes + 10 * eventBytes;
  const bounded = new Tracer({ path: small, role: 'engine', isFirst: true, bytesMax });
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 10; i++) bounded.begin(phases.sample);
    bounded.flush();
  }
  bounded.close();
  await written(small, bytesMax);
  assert.equal(statSync(small).size, bytesMax);
});

test('several processes share a file, and one that is killed leaves what it had flushed', async () => {
  const path = join(folder, 'shared.bin');
  const tracer = new Tracer({ path, role: 'front-end', isFirst: true });
  const children = [1, 2].map(() =>
    fork(join(packageRoot, 'test/support/trace-child.ts'), [path], {
      execArgv: ['--import', import.meta.resolve('tsx')],
    }),
  );
  const deadline = Date.now() + 60_000;
  const threads = (): number => (statSync(path).size > headerBytes ? read(path).trace.threads.length : 0);
  while (threads() < 2) {
    assert.ok(Date.now() < deadline, 'the children wrote nothing');
    await sleep(50);
  }
  tracer.begin(phases.emit);
  for (const child of children) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  tracer.close();
  const { events, trace } = read(path);
  assert.equal(trace.threads.length, 3);
  assert.equal(trace.tornBytes, 0);
  for (const [thread, { role }] of trace.threads.entries()) {
    const own = events.filter((event) => event.thread === thread);
    if (role === 'child')
      assert.ok(own.length > 10 && own.every(({ request }, i) => request === Math.floor(i / 2)));
  }
  assert.ok(
    events.every(({ atNs }, i) => i === 0 || atNs >= events[i - 1]!.atNs),
    'by time, over all processes',
  );
});

test('torn data loses only what was torn', () => {
  const path = join(folder, 'torn.bin');
  const write = (count: number, isFirst: boolean): void => {
    const tracer = new Tracer({ path, role: 'engine', isFirst });
    for (let i = 0; i < count; i++) tracer.begin(phases.sample, i);
    tracer.close();
  };
  write(20, true);
  truncateSync(path, statSync(path).size - 5 * eventBytes - 3);
  assert.equal(read(path).events.length, 14, 'the file ends in a block');
  write(7, false);
  assert.equal(read(path).events.length, 21, 'another block follows the torn one');
  appendFileSync(path, 'garbage');
  const { events, trace } = read(path);
  assert.equal(events.length, 21);
  assert.equal(trace.tornBytes, 24 - 3 + 7);
});

/** A trace of one request over two steps. */
function sample(name: string): TraceFile {
  const path = join(folder, name);
  const tracer = new Tracer({ path, role: 'engine', isFirst: true });
  tracer.begin(phases.queue, 5);
  for (const step of [1, 2]) {
    tracer.step(step);
    tracer.begin(phases.step);
    tracer.begin(phases.compute);
    tracer.end(phases.compute);
    tracer.begin(phases.sample, 5);
    tracer.end(phases.sample, 5);
    tracer.end(phases.step);
    tracer.step(0);
  }
  tracer.end(phases.queue, 5);
  tracer.close();
  return new TraceFile(path);
}

test("CSV is Briton's", () => {
  const lines = [...csvLines(sample('csv.bin'))];
  assert.equal(lines[0], 'StepId,Timestamp,RequestId,ThreadId\n');
  assert.equal(lines.length, 15);
  assert.match(lines[1]!, /^QUEUE_start,\d{19},5,\d+\n$/);
  assert.match(lines[2]!, /^STEP_start,\d{19},,\d+\n$/);
  const times = lines.slice(1).map((line) => BigInt(line.split(',')[1]!));
  assert.deepEqual(
    times,
    times.toSorted((a, b) => (a < b ? -1 : 1)),
  );
});

test('Perfetto: phases nest in their thread, requests have tracks of their own', () => {
  const { traceEvents } = JSON.parse([...perfettoParts(sample('perfetto.bin'))].join('')) as {
    traceEvents: { ph: string; name: string; id?: string; args?: Record<string, unknown> }[];
  };
  assert.deepEqual(traceEvents.map(({ ph }) => ph).join(''), 'MMbBBEBEEBBEBEEe');
  assert.deepEqual(traceEvents[2]!.id, '5');
  assert.deepEqual(traceEvents[3]!.args, { step: 1 });
});

test('the summary adds up, and names the slowest steps', () => {
  const summary = summarizeTrace(sample('summary.bin'));
  assert.deepEqual([summary.steps, summary.events, summary.eventsPerStep, summary.lost], [2, 14, 6, 0]);
  const phase = (name: string) => summary.phases.find((one) => one.name === name)!;
  assert.equal(phase('COMPUTE').count, 2);
  const inner = phase('COMPUTE').totalMs + phase('SAMPLE').totalMs;
  assert.ok(Math.abs(phase('STEP').selfMs - (phase('STEP').totalMs - inner)) < 1e-9);
  assert.equal(summary.slowestSteps.length, 2);
  assert.ok(summary.slowestSteps[0]!.durationMs >= summary.slowestSteps[1]!.durationMs);
  assert.deepEqual(Object.keys(summary.slowestSteps[0]!.phases).sort(), ['COMPUTE', 'SAMPLE']);
});

test('the file that the environment names', () => {
  assert.equal(traceFileOf({}), undefined);
  assert.equal(traceFileOf({ BRITON_TRACER_OUT: '/x/b.bin' }), '/x/b.bin');
  assert.equal(traceFileOf({ NEREID_TRACER_OUT: '/x/a.bin', BRITON_TRACER_OUT: '/x/b.bin' }), '/x/a.bin');
  assert.equal(traceFileOf({ BRITON_TRACER_OUT: folder }), join(folder, `${hostname()}.trace.bin`));
});

test('files that are none, or cannot be written', () => {
  const path = join(folder, 'text');
  writeFileSync(path, 'hello');
  assert.throws(() => new TraceFile(path), { code: 'TRACE_FILE_INVALID' });
  assert.throws(() => new TraceFile(join(folder, 'none')), { code: 'TRACE_FILE_UNREADABLE' });
  const nowhere = { path: join(folder, 'no/where'), role: 'x', isFirst: true };
  assert.throws(() => new Tracer(nowhere), { code: 'TRACE_FILE_UNWRITABLE', message: /NEREID_TRACER_OUT/ });
  assert.ok(readFileSync(path).length > 0);
});

test('a phase that is recorded after it began stands where it began', () => {
  const path = join(folder, 'ago.bin');
  const tracer = new Tracer({ path, role: 'front-end', isFirst: true });
  tracer.begin(phases.tokenize);
  tracer.end(phases.tokenize);
  tracer.begin(phases.request, 7, 1e9);
  tracer.end(phases.request, 7);
  tracer.close();
  const { events } = read(path);
  assert.deepEqual(
    events.map(({ phase, isEnd, request }) => [phase, isEnd, request]),
    [
      [phases.request, false, 7],
      [phases.tokenize, false, -1],
      [phases.tokenize, true, -1],
      [phases.request, true, 7],
    ],
  );
  assert.ok(events[3]!.atNs - events[0]!.atNs >= 1e9);
});
