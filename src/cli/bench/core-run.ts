import { definite } from '../../base/errors.ts';
import { describeArrivals } from '../../load/arrivals.ts';
import type { LoadPlan } from '../../load/runner/plan.ts';
import { runLoad } from '../../load/runner/run.ts';
import { computeMetrics, type Metrics } from '../../load/statistics/metrics.ts';
import { targets } from '../../load/target/registry.ts';
import { histograms } from '../../load/workload/lengths.ts';
import type { HistogramBucket, LengthSpec, WorkloadSource } from '../../load/workload/spec.ts';
import { exitCodes } from '../errors.ts';
import { withInterrupt } from '../interrupt.ts';
import { prepareReport, writeReport } from '../measure/write-report.ts';

/** What commander makes of `nereid bench core`'s command line, with that of its subcommand. */
export interface CoreFlags {
  url?: string;
  protocol: 'grpc' | 'http' | 'briton';
  concurrency: number;
  maxInputLen: number;
  tensorrtLlmModelName: string[];
  requestRate: number;
  timeDelayDist: 'exponential_dist' | 'constant';
  numRequests?: number;
  channels: number;
  seed: number;
  opStatsCsv?: string;
  /** Subcommand `dataset`. */
  dataset: string;
  tokenizerDir?: string;
  opTokensPerWord: number;
  /** Subcommand `token-norm-dist`. */
  inputMean: number;
  inputStdev: number;
  outputMean: number;
  outputStdev: number;
  vocabularySize?: number;
  /** Subcommand `token-from-histogram`. */
  histogramKey: string;
}

/** The subcommands: where lengths and prompts come from. */
export type CoreWorkload = 'dataset' | 'token-norm-dist' | 'token-from-histogram';

/** The load target of each protocol's name. */
const targetNames = { grpc: 'kserve-grpc', http: 'kserve-http', briton: 'briton' } as const;

/** Requests where neither the user nor a histogram says how many, as in the original. */
const requestsDefault = 30_000;

/** Requests before the measurement, as in the original. */
const warmupRequests = 10;

const vocabularySizeDefault = 4096;

/** Runs `nereid bench core`. @throws LoadError */
export async function runCore(flags: CoreFlags, workload: CoreWorkload): Promise<void> {
  prepareReport(flags.opStatsCsv);
  const plan = await planOf(flags, workload);
  const info = (line: string): void => void process.stdout.write(`[INFO] ${line}\n`);
  info('Warm up for benchmarking.');
  await withInterrupt(async (signal) => {
    const result = await runLoad(plan, {
      signal,
      onStart: () => {
        if (plan.pace.kind === 'open') info(`Arrivals: ${describeArrivals(plan.pace.arrivals)}.`);
        info(`Start benchmarking on ${plan.sessions} prompts.`);
      },
    });
    const metrics = computeMetrics(result.records, result.durationMs, { percentiles: [90, 99] });
    info(`Total Latency: ${metrics.durationMs.toFixed(3)} ms`);
    const latency = metrics.latencies.e2el;
    info(`Total request latencies: ${(latency.mean * latency.count).toFixed(3)} ms`);
    const rows = statRows(metrics);
    process.stdout.write(`${prettyTable(rows)}\n`);
    for (const [message, count] of metrics.errors.slice(0, 3)) info(`${count} × ${message}`);
    if (flags.opStatsCsv !== undefined)
      writeReport(
        flags.opStatsCsv,
        `Stat,Value\n${rows.map(([name, value]) => `${name},${value}\n`).join('')}`,
      );
    if (result.isInterrupted) process.exitCode = exitCodes.interrupted;
    else if (metrics.completed === 0) process.exitCode = exitCodes.failure;
  });
}

/** Prompts, answers' lengths (absent: the dataset's), and how many there are where the user does not say. */
function workloadOf(
  flags: CoreFlags,
  workload: CoreWorkload,
): { source: WorkloadSource; output?: LengthSpec; requests: number } {
  if (workload === 'dataset') {
    const { dataset: path, opTokensPerWord: tokensPerWord } = flags;
    return { source: { kind: 'instruction', path, tokensPerWord }, requests: requestsDefault };
  }
  const synthetic = (input: LengthSpec): WorkloadSource => ({
    kind: 'synthetic',
    input,
    prefixes: 1,
    prefixTokens: 0,
    turns: 1,
  });
  if (workload === 'token-norm-dist')
    return {
      source: synthetic(lengths(flags.inputMean, flags.inputStdev)),
      output: lengths(flags.outputMean, flags.outputStdev),
      requests: requestsDefault,
    };
  const { input, output, requests } = definite(histograms[flags.histogramKey], 'a known histogram');
  const drawn = (buckets: readonly HistogramBucket[]): LengthSpec => ({ distribution: 'histogram', buckets });
  return { source: synthetic(drawn(input)), output: drawn(output), requests };
}

async function planOf(flags: CoreFlags, workload: CoreWorkload): Promise<LoadPlan> {
  const { source, output, requests } = workloadOf(flags, workload);
  const kind = targetNames[flags.protocol];
  return {
    target: {
      kind,
      url: flags.url ?? (await targets.load(kind)).usualUrl,
      model: '',
      headers: {},
      streams: false,
      sampling: { ignoreEos: false },
      extraBody: {},
      timeoutMs: 0,
      channels: flags.channels,
    },
    workload: {
      source,
      output,
      seed: flags.seed,
      sendsTokens: true,
      tokenizerFolder: flags.tokenizerDir,
      vocabularySize: flags.vocabularySize ?? vocabularySizeDefault,
      models: flags.tensorrtLlmModelName,
      cancelShare: 0,
      salted: false,
      inputTokensMax: flags.maxInputLen,
    },
    pace: { kind: 'open', arrivals: arrivalsOf(flags), concurrencyMax: flags.concurrency },
    sessions: flags.numRequests ?? requests,
    warmupSessions: warmupRequests,
    workers: 1,
    keepsText: false,
  };
}

function lengths(mean: number, spread: number): LengthSpec {
  return { distribution: 'normal', mean, spread };
}

function arrivalsOf({ requestRate: ratePerSecond, timeDelayDist }: CoreFlags) {
  if (ratePerSecond <= 0) return { kind: 'at-once' as const };
  const kind = timeDelayDist === 'constant' ? ('constant' as const) : ('poisson' as const);
  return { kind, ratePerSecond };
}

/** The original's rows, in its order. */
function statRows(metrics: Metrics): [string, string][] {
  const { e2el } = metrics.latencies;
  const at = (p: number): number => e2el.percentiles.find(([one]) => one === p)?.[1] ?? 0;
  const rows: [string, number][] = [
    ['Requests/Sec', metrics.requestThroughput],
    ['OP tokens/sec', metrics.outputThroughput],
    ['Avg. latency (ms)', e2el.mean],
    ['P99 latency (ms)', at(99)],
    ['P90 latency (ms)', at(90)],
    ['Avg. IP tokens per request', metrics.inputLength.mean],
    ['Avg. OP tokens per request', metrics.outputLength.mean],
    // Little's law; the original prints 0.
    ['Avg. InFlight requests', metrics.durationMs > 0 ? (e2el.mean * e2el.count) / metrics.durationMs : 0],
    ['Total latency (ms)', metrics.durationMs],
    ['Total requests', metrics.completed],
  ];
  return rows.map(([name, value]) => [name, value.toFixed(2)]);
}

/** A table of two columns, centred, as Python's tabulate calls pretty. */
function prettyTable(rows: readonly [string, string][]): string {
  const widths = [0, 1].map((column) =>
    Math.max(...[['Stat', 'Value'], ...rows].map((row) => row[column]?.length ?? 0)),
  );
  const rule = `+${widths.map((width) => '-'.repeat(width + 2)).join('+')}+`;
  const centred = (text: string, width: number): string => {
    const left = Math.floor((width - text.length) / 2);
    return ' '.repeat(left + 1) + text + ' '.repeat(width - text.length - left + 1);
  };
  const line = (row: readonly string[]): string =>
    `|${row.map((text, column) => centred(text, widths[column] ?? 0)).join('|')}|`;
  return [rule, line(['Stat', 'Value']), rule, ...rows.map(line), rule].join('\n');
}
