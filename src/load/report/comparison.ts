import { latencyNames, type Metrics } from '../statistics/metrics.ts';
import type { ResultFile } from './result-json.ts';

/** One line of a comparison: a value for each run, all but the first with its ratio to the first. */
export interface Comparison {
  title: string;
  values: string[];
}

type Value = (metrics: Metrics) => number | undefined;

const rows: readonly (readonly [title: string, value: Value, digits: number])[] = [
  ['completed requests', (metrics) => metrics.completed, 0],
  ['failed requests', (metrics) => metrics.failed, 0],
  ['duration (s)', (metrics) => metrics.durationMs / 1000, 2],
  ['requests/s', (metrics) => metrics.requestThroughput, 2],
  ['goodput (requests/s)', (metrics) => metrics.requestGoodput, 2],
  ['output tokens/s', (metrics) => metrics.outputThroughput, 1],
  ['total tokens/s', (metrics) => metrics.totalTokenThroughput, 1],
  ['peak concurrent requests', (metrics) => metrics.concurrentRequestsMax, 0],
  ['mean arrival error (ms)', (metrics) => metrics.arrivalError?.mean, 2],
  ...latencyNames.flatMap((name): (readonly [string, Value, number])[] => [
    [`mean ${name} (ms)`, ({ latencies }) => latencies[name].mean, 2],
    [`median ${name} (ms)`, ({ latencies }) => latencies[name].median, 2],
    [`p99 ${name} (ms)`, ({ latencies }) => latencies[name].percentiles.find(([p]) => p === 99)?.[1], 2],
  ]),
];

/** Runs side by side; lines that no run has a value for are left out. */
export function comparisonRows(runs: readonly ResultFile[]): Comparison[] {
  return rows.flatMap(([title, value, digits]) => {
    const values = runs.map((run) => value(run.nereid.metrics));
    if (values.every((one) => one === undefined)) return [];
    const [first] = values;
    const texts = values.map((one, index) => {
      if (one === undefined) return '–';
      const ratio = index > 0 && first ? ` (× ${(one / first).toFixed(2)})` : '';
      return `${one.toFixed(digits)}${ratio}`;
    });
    return [{ title, values: texts }];
  });
}
