/**
 * npm run bench:load -- [--rate 1000] [--requests 10000] [--tokens 8] [--step-ms 10] [--runs 3] [--workers 1] [--target openai]
 *
 * Whether the load generator tells the truth: an open loop of Poisson arrivals against `nereid serve` with the null device, whose own
 * tracer logs each request. Bars: arrival error p99 ≤ 3 ms; TTFT and TPOT within 2 % or 0.5 ms of the server's own log. Two such logs are
 * printed: the server's, front end included (from the request's arrival to its answer's bytes), and its engine's alone, which leaves out
 * HTTP, JSON and tokenizing. Client, front end and engine share the machine's cores.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { LoadPlan } from '../src/load/runner/plan.ts';
import { runLoad } from '../src/load/runner/run.ts';
import { computeMetrics, type Metrics } from '../src/load/statistics/metrics.ts';
import { percentile } from '../src/load/statistics/summary.ts';
import { readServerLog, type ServerLog } from './load/server-log.ts';
import { cpuTimesMs } from './support/cpu-time.ts';
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
    workers: { type: 'string', default: '1' },
    target: { type: 'string', default: 'openai' },
  },
});
const tokens = Number(flags.tokens);
const requests = Number(flags.requests);

function planOf(url: string): LoadPlan {
  const exactly = (mean: number) => ({ distribution: 'normal' as const, mean, spread: 0 });
  return {
    target: {
      kind: flags.target,
      url,
      model: flags.target === 'briton' ? '' : 'nereid-16m',
      headers: {},
      streams: true,
      sampling: { temperature: 0, ignoreEos: true },
      extraBody: {},
      timeoutMs: 0,
      channels: 4,
    },
    workload: {
      source: { kind: 'synthetic', input: exactly(8), prefixes: 1, prefixTokens: 0, turns: 1 },
      output: exactly(tokens),
      seed: 1,
      sendsTokens: flags.target !== 'openai-chat',
      vocabularySize: 4096,
      models: [],
      cancelShare: 0,
      salted: false,
    },
    pace: { kind: 'open', arrivals: { kind: 'poisson', ratePerSecond: Number(flags.rate) } },
    sessions: requests,
    // The compilers of client, front end and engine.
    warmupSessions: 500,
    workers: Number(flags.workers),
    keepsText: false,
  };
}

/** One run's outcome: what the client measured, what the server logged, microseconds of CPU a request. */
interface Outcome {
  metrics: Metrics;
  log: ServerLog;
  clientUs: number;
  serverUs: number[];
}

async function run(): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-bench-load-'));
  const trace = join(folder, 'trace.bin');
  const serving = ['--device', 'null', '--device-option', `step-ms=${flags['step-ms']}`];
  if (flags.target === 'briton') serving.push('--briton-port', '0');
  const server = await serveBench([...serving, '--max-sequences', '512'], { NEREID_TRACER_OUT: trace });
  try {
    let before = new Map<number, number>();
    const url = flags.target === 'briton' ? (server.briton ?? '') : server.url;
    const result = await runLoad(planOf(url), {
      onStart: () => {
        before = cpuTimesMs(server.processId);
      },
    });
    const after = cpuTimesMs(server.processId);
    await server.stop();
    const metrics = computeMetrics(result.records, result.durationMs, { percentiles: [50, 99] });
    if (metrics.failed > 0) throw new Error(`${metrics.failed} failed: ${metrics.errors[0]?.[0]}`);
    const perRequest = (ms: number): number => (ms * 1000) / requests;
    return {
      metrics,
      log: readServerLog(trace, requests, tokens),
      clientUs: perRequest(result.clientCpu.userMs + result.clientCpu.systemMs),
      serverUs: [...after].map(([id, ms]) => perRequest(ms - (before.get(id) ?? 0))),
    };
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

const verdict = (isMet: boolean): string => (isMet ? 'met' : 'NOT met');
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
const at = (values: readonly number[], p: number): number => percentile(Float64Array.from(values).sort(), p);

function printLatency(name: 'ttft' | 'tpot', outcomes: readonly Outcome[]): void {
  const client = outcomes.map(({ metrics }) => metrics.latencies[name]);
  const means = client.map((one) => one.mean);
  const p50 = median(client.map((one) => one.median));
  const p99 = median(client.map((one) => one.percentiles[1]?.[1] ?? Number.NaN));
  console.log(
    `${name}  client        mean ${summary(means, 2)} ms, p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)}`,
  );
  for (const [log, title] of [
    ['server', "server's log"],
    ['engine', "engine's log"],
  ] as const) {
    const logged = outcomes.map((one) => one.log[log][name]);
    const truth = logged.map(mean);
    const off = means.map((value, i) => value - (truth[i] ?? Number.NaN));
    const isNear = Math.abs(median(off)) <= Math.max(bars.ms, bars.share * median(truth));
    const middle = median(logged.map((values) => at(values, 50)));
    const high = median(logged.map((values) => at(values, 99)));
    console.log(
      `      ${title}  mean ${summary(truth, 2)} ms, p50 ${middle.toFixed(2)}, p99 ${high.toFixed(2)}; client − log ${summary(off, 3)} ms (bar 2 % or 0.5 ms: ${verdict(isNear)})`,
    );
  }
}

const outcomes: Outcome[] = [];
for (let i = 0; i < Number(flags.runs); i++) outcomes.push(await run());
console.log(
  `${flags.rate} requests/s Poisson over ${flags.target}, ${requests} requests of ${tokens} tokens, null device at ${flags['step-ms']} ms a step, ${flags.workers} client process(es); median [least … most] of ${flags.runs} runs`,
);
const arrival = outcomes.map(({ metrics }) => metrics.arrivalError?.percentiles[1]?.[1] ?? Number.NaN);
console.log(
  `arrival error p99  ${summary(arrival, 2)} ms (bar ${bars.arrivalP99Ms} ms: ${verdict(median(arrival) <= bars.arrivalP99Ms)})`,
);
printLatency('ttft', outcomes);
printLatency('tpot', outcomes);
const servers = outcomes.map(({ serverUs }) => serverUs.map((us) => us.toFixed(0)).join(' + '));
console.log(
  `CPU a request: client ${summary(
    outcomes.map(({ clientUs }) => clientUs),
    0,
  )} µs; server's processes ${servers.join(', ')} µs`,
);
