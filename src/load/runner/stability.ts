import type { RequestRecord } from '../record.ts';

/** Windows that must agree. */
export const stableWindows = 3;

/** Windows of one load level at most (perf_analyzer's `--max-trials`). */
export const windowsMax = 50;

/** What of a window must agree with the others. */
export interface WindowFigures {
  /** Completed requests a second. */
  throughput: number;
  /** Mean milliseconds from sent to the answer's end. */
  latencyMs: number;
}

/** The figures of the requests that ended within [fromMs, toMs) of the run. */
export function windowFigures(
  records: readonly RequestRecord[],
  fromMs: number,
  toMs: number,
): WindowFigures {
  const ended = inWindow(records, fromMs, toMs);
  const latency = ended.reduce((sum, { endMs }) => sum + endMs, 0);
  return {
    throughput: (ended.length * 1000) / (toMs - fromMs),
    latencyMs: ended.length > 0 ? latency / ended.length : Number.NaN,
  };
}

/** The completed requests that ended in a window. */
export function inWindow(records: readonly RequestRecord[], fromMs: number, toMs: number): RequestRecord[] {
  return records.filter(({ sentMs, endMs, outcome }) => {
    const atMs = sentMs + endMs;
    return outcome === 'completed' && atMs >= fromMs && atMs < toMs;
  });
}

/**
 * Whether the last {@link stableWindows} windows agree: throughput and latency of each within `share` of their mean (perf_analyzer's rule).
 */
export function isStable(windows: readonly WindowFigures[], share: number): boolean {
  const last = windows.slice(-stableWindows);
  if (last.length < stableWindows) return false;
  return (['throughput', 'latencyMs'] as const).every((name) => {
    const mean = last.reduce((sum, window) => sum + window[name], 0) / last.length;
    return last.every((window) => Math.abs(window[name] - mean) <= share * mean);
  });
}
