import { type LatencyName, latencyTitles, type Metrics } from '../statistics/metrics.ts';

const titleWidth = 40;
const valueWidth = 10;
const width = titleWidth + valueWidth;

/** What stands in the table beside the metrics. */
export interface TableOptions {
  /** Latencies to show, in this order. */
  latencies: readonly LatencyName[];
  arrivals: string;
  workload: string;
}

/** The table that `vllm bench serve` prints, with what we know beyond it. */
export function consoleTable(metrics: Metrics, options: TableOptions): string {
  const lines = [
    heading(' Serving Benchmark Result ', '='),
    row('Successful requests:', metrics.completed),
    row('Failed requests:', metrics.failed),
    ...optional('Cancelled requests:', metrics.cancelled),
    ...optional('Requests ended by Ctrl-C:', metrics.stopped),
    row('Benchmark duration (s):', metrics.durationMs / 1000, 2),
    row('Total input tokens:', metrics.inputTokens),
    row('Total generated tokens:', metrics.outputTokens),
    row('Request throughput (req/s):', metrics.requestThroughput, 2),
    ...optional('Request goodput (req/s):', metrics.requestGoodput, 2),
    row('Output token throughput (tok/s):', metrics.outputThroughput, 2),
    row('Peak output token throughput (tok/s):', metrics.outputTokensPerSecondMax, 2),
    row('Peak concurrent requests:', metrics.concurrentRequestsMax),
    row('Total token throughput (tok/s):', metrics.totalTokenThroughput, 2),
    ...arrivalRows(metrics),
    ...options.latencies.flatMap((name) => latencyRows(name, metrics)),
    '='.repeat(width),
    `Arrivals: ${options.arrivals}. Workload: ${options.workload}.`,
    ...metrics.errors.slice(0, 3).map(([message, count]) => `${count} × ${message.slice(0, 300)}`),
  ];
  return lines.join('\n');
}

function heading(text: string, fill: string): string {
  const left = Math.floor((width - text.length) / 2);
  return fill.repeat(Math.max(0, left)) + text + fill.repeat(Math.max(0, width - left - text.length));
}

function row(title: string, value: number, digits = 0): string {
  return title.padEnd(titleWidth) + value.toFixed(digits).padEnd(valueWidth);
}

function optional(title: string, value: number | undefined, digits = 0): string[] {
  return value ? [row(title, value, digits)] : [];
}

function arrivalRows({ arrivalError }: Metrics): string[] {
  if (!arrivalError) return [];
  const rows = [row('Mean arrival error (ms):', arrivalError.mean, 2)];
  for (const [p, value] of arrivalError.percentiles) rows.push(row(`P${p} arrival error (ms):`, value, 2));
  return rows;
}

function latencyRows(name: LatencyName, { latencies }: Metrics): string[] {
  const summary = latencies[name];
  const short = name === 'normalized' ? 'normalized' : name.toUpperCase();
  return [
    heading(latencyTitles[name], '-'),
    row(`Mean ${short} (ms):`, summary.mean, 2),
    row(`Median ${short} (ms):`, summary.median, 2),
    ...summary.percentiles.map(([p, value]) => row(`P${p} ${short} (ms):`, value, 2)),
  ];
}
