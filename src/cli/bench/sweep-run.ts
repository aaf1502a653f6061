import { htmlReport } from '../../load/report/html-report.ts';
import type { ResultFile } from '../../load/report/result-json.ts';
import type { LoadPlan } from '../../load/runner/plan.ts';
import { measureLevel } from '../../load/runner/sweep.ts';
import { firstModel } from '../../load/target/models.ts';
import { targets } from '../../load/target/registry.ts';
import { CliError, exitCodes } from '../errors.ts';
import { withInterrupt } from '../interrupt.ts';
import { describeRun } from '../measure/measure.ts';
import { type CommonFlags, headersOf, targetFlags } from '../measure/options.ts';
import { prepareReport, writeReport } from '../measure/write-report.ts';

/** What commander makes of `nereid bench sweep`'s command line. */
export interface SweepFlags extends CommonFlags {
  target: string;
  url?: string;
  model?: string;
  concurrencyRange?: number[];
  requestRateRange?: number[];
  measurementInterval: number;
  stabilityPercentage: number;
  maxTrials: number;
  inputTokens: number;
  outputTokens: number;
  seed: number;
}

/** Token ids are drawn below it where a protocol takes no text. */
const vocabularySize = 4096;

/** Runs `nereid bench sweep`: a line a level, in perf_analyzer's words. @throws LoadError, CliError */
export async function runSweep(flags: SweepFlags): Promise<void> {
  const { concurrencyRange, requestRateRange } = flags;
  if (concurrencyRange && requestRateRange)
    throw new CliError('CLI_VALUE_INVALID', 'give --concurrency-range or --request-rate-range, not both');
  prepareReport(flags.output);
  prepareReport(flags.html);
  const plan = await planOf(flags);
  const results: ResultFile[] = [];
  await withInterrupt(async (signal) => {
    for (const level of requestRateRange ?? concurrencyRange ?? [1]) {
      const options = {
        windowMs: flags.measurementInterval,
        stability: flags.stabilityPercentage / 100,
        trialsMax: flags.maxTrials,
        percentiles: flags.metricPercentiles,
        goodput: flags.goodput,
        signal,
      };
      const measured = await measureLevel(plan, level, options);
      const { metrics, isStable, result } = measured;
      const what = requestRateRange ? 'Request Rate' : 'Concurrency';
      const note = noteOf(result.isInterrupted, isStable, flags.maxTrials);
      process.stdout.write(
        `${what}: ${level}, throughput: ${metrics.requestThroughput.toFixed(2)} infer/sec, latency ${(metrics.latencies.e2el.mean * 1000).toFixed(0)} usec, ${metrics.outputThroughput.toFixed(1)} output tokens/sec, p99 ttft ${(metrics.latencies.ttft.percentiles.at(-1)?.[1] ?? 0).toFixed(2)} ms${note}\n`,
      );
      results.push(await describeRun({ ...plan }, result, metrics, `${what} ${level}`));
      if (!result.isInterrupted) continue;
      process.exitCode = exitCodes.interrupted;
      break;
    }
  });
  if (flags.output !== undefined && results.length > 0) writeReport(flags.output, JSON.stringify(results));
  if (flags.html !== undefined && results.length > 0) writeReport(flags.html, htmlReport(results));
  if (results.every(({ completed }) => completed === 0)) process.exitCode ||= 1;
}

function noteOf(isInterrupted: boolean, isStable: boolean, trials: number): string {
  if (isInterrupted) return ' (interrupted)';
  return isStable ? '' : ` (not stable after ${trials} windows)`;
}

async function planOf(flags: SweepFlags): Promise<LoadPlan> {
  const row = await targets.load(flags.target);
  const url = flags.url ?? row.usualUrl;
  const isOpenAi = flags.target.startsWith('openai');
  const model = flags.model ?? (isOpenAi ? await firstModel(url, headersOf(flags)) : '');
  const exactly = (mean: number) => ({ distribution: 'normal' as const, mean, spread: 0 });
  return {
    target: { ...targetFlags(flags), kind: flags.target, url, model, streams: true },
    workload: {
      source: {
        kind: 'synthetic',
        input: exactly(flags.inputTokens),
        prefixes: 1,
        prefixTokens: 0,
        turns: 1,
      },
      output: exactly(flags.outputTokens),
      seed: flags.seed,
      sendsTokens: !row.sendsText,
      vocabularySize,
      models: [],
      cancelShare: 0,
      salted: false,
    },
    pace: flags.requestRateRange
      ? { kind: 'open', arrivals: { kind: 'at-once' } }
      : { kind: 'closed', concurrency: 1 },
    warmupSessions: 1,
    workers: flags.workers,
    keepsText: false,
  };
}
