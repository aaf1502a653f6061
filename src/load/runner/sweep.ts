import type { RequestRecord } from '../record.ts';
import { computeMetrics, type Metrics, type MetricsOptions } from '../statistics/metrics.ts';
import type { LoadPlan, LoadResult } from './plan.ts';
import { runLoad } from './run.ts';
import { inWindow, isStable, stableWindows, type WindowFigures, windowFigures } from './stability.ts';

/** How each level of a sweep is measured. */
export interface SweepOptions extends MetricsOptions {
  /** Length of a window. */
  windowMs: number;
  /** How far windows may lie from their mean. */
  stability: number;
  /** Windows at most, if they do not agree before. */
  trialsMax: number;
  signal?: AbortSignal;
}

/** One level's outcome: the requests of its last windows only. */
export interface LevelResult {
  /** Sessions at a time, or arrivals a second. */
  level: number;
  isStable: boolean;
  metrics: Metrics;
  result: LoadResult;
}

/** Loads a server at one level until it is stable, as perf_analyzer does, without a pause between windows. */
export async function measureLevel(
  plan: LoadPlan,
  level: number,
  options: SweepOptions,
): Promise<LevelResult> {
  const { windowMs, trialsMax } = options;
  const records: RequestRecord[] = [];
  const windows: WindowFigures[] = [];
  let timer: NodeJS.Timeout | undefined;
  let stable = false;
  const pace =
    plan.pace.kind === 'closed'
      ? { ...plan.pace, concurrency: level }
      : { ...plan.pace, arrivals: { kind: 'poisson' as const, ratePerSecond: level } };
  // An open loop's arrivals are made beforehand: as many as the longest measurement takes.
  const sessions =
    pace.kind === 'closed' ? undefined : Math.ceil((level * windowMs * (trialsMax + 1)) / 1000);
  const result = await runLoad(
    { ...plan, pace, sessions },
    {
      signal: options.signal,
      onRecord: (record) => records.push(record),
      onStart: ({ finish }) => {
        timer = setInterval(() => {
          windows.push(windowFigures(records, windows.length * windowMs, (windows.length + 1) * windowMs));
          stable = isStable(windows, options.stability);
          if (!stable && windows.length < trialsMax) return;
          clearInterval(timer);
          finish();
        }, windowMs);
      },
    },
  ).finally(() => clearInterval(timer));
  const counted = Math.min(stableWindows, windows.length);
  const fromMs = (windows.length - counted) * windowMs;
  // Ended before the first window was over: what there is.
  const endMs = windows.length * windowMs || result.durationMs;
  const kept = inWindow(result.records, fromMs, endMs);
  const failed = result.records.filter(({ outcome }) => outcome === 'failed');
  const metrics = computeMetrics([...kept, ...failed], endMs - fromMs, options);
  return { level, isStable: stable, metrics, result: { ...result, records: [...kept, ...failed] } };
}
