import type { RequestRecord } from '../record.ts';
import { type Summary, summarize } from './summary.ts';

/** The latencies that a request is described by, all in milliseconds; see docs/measuring.md for where each definition comes from. */
export const latencyNames = ['ttft', 'ttst', 'tpot', 'itl', 'e2el', 'normalized'] as const;
export type LatencyName = (typeof latencyNames)[number];

/** What each latency is, for tables and reports. */
export const latencyTitles: Record<LatencyName, string> = {
  ttft: 'Time to First Token',
  ttst: 'Time to Second Token',
  tpot: 'Time per Output Token (excl. 1st token)',
  itl: 'Inter-token Latency',
  e2el: 'End-to-end Latency',
  normalized: 'Latency per Output Token (incl. 1st token)',
};

/** Limits that a request must meet to count for goodput, in milliseconds. */
export type GoodputLimits = Partial<Record<'ttft' | 'tpot' | 'e2el', number>>;

/** Everything that is computed of one run. Rates are per second of the run's duration. */
export interface Metrics {
  durationMs: number;
  completed: number;
  failed: number;
  cancelled: number;
  stopped: number;
  inputTokens: number;
  outputTokens: number;
  requestThroughput: number;
  /** Undefined where no limit was given. */
  requestGoodput?: number;
  outputThroughput: number;
  totalTokenThroughput: number;
  /** Output tokens of the busiest whole second of the run; most requests in flight at one moment. */
  outputTokensPerSecondMax: number;
  concurrentRequestsMax: number;
  latencies: Record<LatencyName, Summary>;
  /** By how much requests were sent after their arrival time; undefined in a closed loop. */
  arrivalError?: Summary;
  inputLength: Summary;
  outputLength: Summary;
  /** Errors of failed requests with how often each came, most frequent first. */
  errors: readonly [message: string, count: number][];
}

/** How {@link computeMetrics} is to report. */
export interface MetricsOptions {
  percentiles: readonly number[];
  goodput?: GoodputLimits;
}

/** A request's own latencies. `tpot` and `ttst` need two tokens. */
export function latenciesOf(
  record: RequestRecord,
): Partial<Record<LatencyName, number>> & { itls: number[] } {
  const { outputMs, endMs, outputTokens } = record;
  const ttft = outputMs[0] ?? endMs;
  const itls: number[] = [];
  for (let i = 1; i < outputMs.length; i++) itls.push((outputMs[i] ?? 0) - (outputMs[i - 1] ?? 0));
  return {
    ttft,
    ...(itls[0] === undefined ? {} : { ttst: itls[0] }),
    ...(outputTokens > 1 ? { tpot: (endMs - ttft) / (outputTokens - 1) } : {}),
    e2el: endMs,
    ...(outputTokens > 0 ? { normalized: endMs / outputTokens } : {}),
    itls,
  };
}

/** Computes a run's metrics from its raw records. Only completed requests count, but for the counts of the others. */
export function computeMetrics(
  records: readonly RequestRecord[],
  durationMs: number,
  options: MetricsOptions,
): Metrics {
  const completed = records.filter(({ outcome }) => outcome === 'completed');
  const count = (outcome: RequestRecord['outcome']): number =>
    records.filter((record) => record.outcome === outcome).length;
  const seconds = durationMs / 1000;
  const rate = (amount: number): number => (seconds > 0 ? amount / seconds : 0);
  const values = gather(completed);
  const inputTokens = completed.reduce((sum, record) => sum + record.inputTokens, 0);
  const outputTokens = completed.reduce((sum, record) => sum + record.outputTokens, 0);
  const scheduled = records.filter(({ scheduledMs }) => scheduledMs !== undefined);
  const summary = (numbers: ArrayLike<number>): Summary => summarize(numbers, options.percentiles);
  const latencies = Object.fromEntries(latencyNames.map((name) => [name, summary(values[name])]));
  const { goodput } = options;
  return {
    durationMs,
    completed: completed.length,
    failed: count('failed'),
    cancelled: count('cancelled'),
    stopped: count('stopped'),
    inputTokens,
    outputTokens,
    requestThroughput: rate(completed.length),
    ...(goodput ? { requestGoodput: rate(completed.filter((record) => meets(record, goodput)).length) } : {}),
    outputThroughput: rate(outputTokens),
    totalTokenThroughput: rate(inputTokens + outputTokens),
    ...peaks(completed, durationMs),
    latencies: latencies as Record<LatencyName, Summary>,
    ...(scheduled.length > 0
      ? { arrivalError: summary(scheduled.map(({ sentMs, scheduledMs }) => sentMs - (scheduledMs ?? 0))) }
      : {}),
    inputLength: summary(completed.map((record) => record.inputTokens)),
    outputLength: summary(completed.map((record) => record.outputTokens)),
    errors: errorsOf(records),
  };
}

/** Whether a request met every limit. One of a single token has no TPOT and meets any (vLLM counts it as 0). */
export function meets(record: RequestRecord, limits: GoodputLimits): boolean {
  const latencies = latenciesOf(record);
  return (Object.entries(limits) as [LatencyName, number][]).every(
    ([name, limitMs]) => (latencies[name as 'ttft'] ?? 0) <= limitMs,
  );
}

function gather(records: readonly RequestRecord[]): Record<LatencyName, number[]> {
  const values: Record<LatencyName, number[]> = {
    ttft: [],
    ttst: [],
    tpot: [],
    itl: [],
    e2el: [],
    normalized: [],
  };
  for (const record of records) {
    const { itls, ...latencies } = latenciesOf(record);
    for (const itl of itls) values.itl.push(itl);
    for (const [name, value] of Object.entries(latencies)) values[name as LatencyName].push(value);
  }
  return values;
}

/** Output tokens that arrived in the busiest whole second (as in vLLM), and the most requests that were in flight at one moment. */
function peaks(
  records: readonly RequestRecord[],
  durationMs: number,
): Pick<Metrics, 'outputTokensPerSecondMax' | 'concurrentRequestsMax'> {
  const seconds = Math.floor(durationMs / 1000) + 1;
  const tokens = new Float64Array(seconds);
  for (const { sentMs, outputMs, outputTokens } of records) {
    const perOutput = outputTokens / Math.max(1, outputMs.length);
    for (const atMs of outputMs) {
      const second = Math.min(seconds - 1, Math.max(0, Math.floor((sentMs + atMs) / 1000)));
      tokens[second] = (tokens[second] ?? 0) + perOutput;
    }
  }
  const outputTokensPerSecondMax = tokens.reduce((high, value) => Math.max(high, value), 0);
  return { outputTokensPerSecondMax, concurrentRequestsMax: concurrentMax(records) };
}

function concurrentMax(records: readonly RequestRecord[]): number {
  const starts = Float64Array.from(records, ({ sentMs }) => sentMs).sort();
  const ends = Float64Array.from(records, ({ sentMs, endMs }) => sentMs + endMs).sort();
  let most = 0;
  let ended = 0;
  for (const [started, startMs] of starts.entries()) {
    while ((ends[ended] ?? Number.POSITIVE_INFINITY) <= startMs) ended++;
    most = Math.max(most, started + 1 - ended);
  }
  return most;
}

function errorsOf(records: readonly RequestRecord[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const { error } of records) if (error !== undefined) counts.set(error, (counts.get(error) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}
