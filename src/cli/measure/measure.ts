import { cpus } from 'node:os';
import { packageVersion } from '../../base/package-version.ts';
import { describeArrivals } from '../../load/arrivals.ts';
import { consoleTable } from '../../load/report/console-table.ts';
import { htmlReport } from '../../load/report/html-report.ts';
import { type ResultFile, type RunDescription, resultFile } from '../../load/report/result-json.ts';
import type { LoadPlan, LoadResult } from '../../load/runner/plan.ts';
import { runLoad } from '../../load/runner/run.ts';
import {
  computeMetrics,
  type LatencyName,
  type Metrics,
  type MetricsOptions,
} from '../../load/statistics/metrics.ts';
import { openWorkload } from '../../load/workload/open.ts';
import { exitCodes } from '../errors.ts';
import { ProgressLine } from './progress-line.ts';
import { prepareReport, writeReport } from './write-report.ts';

/** What to do with a run's result. */
export interface MeasureOptions extends MetricsOptions {
  label: string;
  /** Latencies in the printed table. */
  latencies: readonly LatencyName[];
  showsProgress: boolean;
  /** File for the JSON; '-' is stdout, instead of the table. */
  output?: string;
  /** File for the HTML report. */
  html?: string;
  /** Leave answers' texts in the JSON. */
  keepsText: boolean;
}

/**
 * Makes a load as people watch it: progress while it runs, then the table, the files, and an exit status of 1 when nothing completed.
 * Ctrl-C ends it early and still reports; a second one ends the process.
 * @throws LoadError
 */
export async function measure(plan: LoadPlan, options: MeasureOptions): Promise<ResultFile> {
  prepareReport(options.output);
  prepareReport(options.html);
  const result = await watched(plan, options.showsProgress);
  const metrics = computeMetrics(result.records, result.durationMs, options);
  const file = await describeRun(plan, result, metrics, options.label, options.keepsText);
  const { arrivals, workload } = file.nereid.description;
  if (options.output !== '-') {
    const { latencies } = options;
    process.stdout.write(`${consoleTable(metrics, { latencies, arrivals, workload })}\n`);
  }
  await writeReports(file, options);
  if (result.isInterrupted) process.exitCode = exitCodes.interrupted;
  else if (metrics.completed === 0) process.exitCode = exitCodes.failure;
  return file;
}

/** A run with all that a reader must know of it. */
export async function describeRun(
  plan: LoadPlan,
  result: LoadResult,
  metrics: Metrics,
  label: string,
  keepsText = false,
): Promise<ResultFile> {
  const { description: workload } = await openWorkload(plan.workload);
  const arrivals =
    plan.pace.kind === 'closed' ? `${plan.pace.concurrency} at a time` : describeArrivals(plan.pace.arrivals);
  const description: RunDescription = { label, plan, arrivals, workload, tool: describeTool() };
  return resultFile(description, result, metrics, keepsText);
}

async function watched(plan: LoadPlan, showsProgress: boolean): Promise<LoadResult> {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted);
    process.stderr.write('\nnereid: interrupted; reporting what there is …\n');
    controller.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const progress = showsProgress ? new ProgressLine(plan.sessions) : undefined;
  try {
    return await runLoad(plan, {
      signal: controller.signal,
      onStart: () => progress?.start(),
      onRecord: ({ outcome }) => progress?.add(outcome === 'failed'),
    });
  } finally {
    progress?.finish();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

async function writeReports(file: ResultFile, options: MeasureOptions): Promise<void> {
  if (options.output !== undefined) writeReport(options.output, JSON.stringify(file));
  if (options.html !== undefined) writeReport(options.html, htmlReport([file]));
}

function describeTool(): RunDescription['tool'] {
  const [cpu] = cpus();
  return {
    name: 'nereid',
    version: packageVersion(),
    node: process.version,
    cpu: cpu?.model ?? 'unknown',
    cores: cpus().length,
  };
}
