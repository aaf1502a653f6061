/**
 * npm run bench:load -- [--rate 1000] [--requests 10000] [--tokens 8] [--step-ms 10] [--runs 3]
 *
 * Whether the load generator tells the truth: an open loop of Poisson arrivals against `nereid serve` with the null device, whose own
 * tracer logs each request's queueing, prefill and decoding. Bars: arrival error p99 ≤ 3 ms; TTFT and TPOT within 2 % or 0.5 ms of the
 * engine's own. What lies between the two is real: HTTP, JSON and tokenizing in the front end, and a client on the same two cores.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { LoadPlan } from '../src/load/runner/plan.ts';
import { runLoad } from '../src/load/runner/run.ts';
import { computeMetrics } from '../src/load/statistics/metrics.ts';
import { phases } from '../src/trace/phases.ts';
import { TraceFile } from '../src/trace/reader.ts';
import { serveBench } from './support/serve.ts';
import { median, summary } from './support/statistics.ts';

const bars = { arrivalP99Ms: 3, share: 0.02, ms: 0.5 };

const { values: flags } = parseArgs({
  options: {
    rate: { type: 'string', default: '1000' },
    requests: { type: 'string', default: '10000' },
    tokens: { type: 'string', default: '8' },
    'step-ms': { type: 'string', default: '10' },
    runs: { type: 'string', default: '3' },
  },
});
const tokens = Number(flags.tokens);

function planOf(url: string): LoadPlan {
  const exactly = (mean: number) => ({ distribution: 'normal' as const, mean, spread: 0 });
  return {
    target: {
      kind: 'openai',
      url,
      model: 'nereid-16m',
      headers: {},
      streams: true,
      sampling: { temperature: 0, ignoreEos: true },
      extraBody: {},
      timeoutMs: 0,
      channels: 1,
    },
    workload: {
      source: { kind: 'synthetic', input: exactly(8), prefixes: 1, prefixTokens: 0, turns: 1 },
      output: exactly(tokens),
      seed: 1,
      sendsTokens: true,
      vocabularySize: 4096,
      models: [],
      cancelShare: 0,
      salted: false,
    },
    pace: { kind: 'open', arrivals: { kind: 'poisson', ratePerSecond: Number(flags.rate) } },
    sessions: Number(flags.requests),
    // The compilers of client, front end and engine.
    warmupSessions: 500,
    workers: 1,
    keepsText: false,
  };
}

/** Mean milliseconds of each request's QUEUE_start → PREFILL_end, and of the time a further token took. */
function engineTruth(path: string, requests: number): { ttftMs: number; tpotMs: number } {
  const trace = new TraceFile(path);
  const times = new Map<number, { queued: number; first: number; end: number }>();
  for (const { phase, isEnd, request, atNs } of trace.events()) {
    if (phase === phases.queue && !isEnd) times.set(request, { queued: atNs, first: 0, end: 0 });
    const time = times.get(request);
    if (time && phase === phases.prefill && isEnd) time.first = atNs;
    if (time && phase === phases.decode && isEnd) time.end = atNs;
  }
  trace.close();
  // The warm-up came first; ids ascend.
  const measured = [...times].sort((a, b) => a[0] - b[0]).slice(-requests);
  const mean = (value: (time: { queued: number; first: number; end: number }) => number): number =>
    measured.reduce((sum, [, time]) => sum + value(time), 0) / measured.length / 1e6;
  return {
    ttftMs: mean(({ queued, first }) => first - queued),
    tpotMs: mean(({ first, end }) => (end - first) / (tokens - 1)),
  };
}

async function run(): Promise<{ arrivalP99Ms: number; ttft: number[]; tpot: number[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-bench-load-'));
  const trace = join(folder, 'trace.bin');
  const device = [
    '--device',
    'null',
    '--device-option',
    `step-ms=${flags['step-ms']}`,
    '--max-sequences',
    '512',
  ];
  const server = await serveBench(device, { NEREID_TRACER_OUT: trace });
  const plan = planOf(server.url);
  const result = await runLoad(plan);
  await server.stop();
  const metrics = computeMetrics(result.records, result.durationMs, { percentiles: [99] });
  if (metrics.failed > 0) throw new Error(`${metrics.failed} failed: ${metrics.errors[0]?.[0]}`);
  const truth = engineTruth(trace, Number(flags.requests));
  rmSync(folder, { recursive: true });
  return {
    arrivalP99Ms: metrics.arrivalError?.percentiles[0]?.[1] ?? Number.NaN,
    ttft: [metrics.latencies.ttft.mean, truth.ttftMs],
    tpot: [metrics.latencies.tpot.mean, truth.tpotMs],
  };
}

const runs: Awaited<ReturnType<typeof run>>[] = [];
for (let i = 0; i < Number(flags.runs); i++) runs.push(await run());
console.log(
  `${flags.rate} requests/s Poisson, ${flags.requests} requests of ${tokens} tokens, null device at ${flags['step-ms']} ms a step; median [least … most] of ${flags.runs} runs`,
);
const arrival = runs.map(({ arrivalP99Ms }) => arrivalP99Ms);
const verdict = (isMet: boolean): string => (isMet ? 'met' : 'NOT met');
console.log(
  `arrival error p99  ${summary(arrival, 2)} ms (bar ${bars.arrivalP99Ms} ms: ${verdict(median(arrival) <= bars.arrivalP99Ms)})`,
);
for (const name of ['ttft', 'tpot'] as const) {
  const measured = runs.map((one) => one[name][0] ?? Number.NaN);
  const truth = runs.map((one) => one[name][1] ?? Number.NaN);
  const off = measured.map((value, i) => value - (truth[i] ?? Number.NaN));
  const isNear = Math.abs(median(off)) <= Math.max(bars.ms, bars.share * median(truth));
  console.log(
    `${name}  client ${summary(measured, 2)} ms, engine's own log ${summary(truth, 2)} ms, apart ${summary(off, 3)} ms (bar 2 % or 0.5 ms: ${verdict(isNear)})`,
  );
}
