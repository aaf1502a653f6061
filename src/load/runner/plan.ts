import type { Arrivals } from '../arrivals.ts';
import type { RequestRecord } from '../record.ts';
import type { TargetSpec } from '../target/target.ts';
import type { WorkloadSpec } from '../workload/spec.ts';

/**
 * When sessions start. Closed loop: so many at a time, the next when one ends. Open loop: at their arrival times, whatever the server
 * does, but at most `concurrencyMax` at a time (later ones wait, and their record shows by how much).
 */
export type PaceSpec =
  | { kind: 'closed'; concurrency: number }
  | { kind: 'open'; arrivals: Arrivals; concurrencyMax?: number };

/** A whole load as plain data. */
export interface LoadPlan {
  target: TargetSpec;
  workload: WorkloadSpec;
  pace: PaceSpec;
  /** Sessions in all; absent: until {@link durationMs}, or until the caller stops it (closed loop only). */
  sessions?: number;
  /** No session starts after so long; running ones finish. */
  durationMs?: number;
  /** Sessions before the measurement, which leave no record. */
  warmupSessions: number;
  /** Processes that make the load: 1 makes it in this one. */
  workers: number;
  /** Keep answers' text in the records. */
  keepsText: boolean;
}

/** CPU time that making the load cost, over all of its processes. */
export interface ClientCpu {
  userMs: number;
  systemMs: number;
}

/** What a load left behind; statistics are computed from `records` alone. */
export interface LoadResult {
  records: RequestRecord[];
  /** Wall clock at the run's start, milliseconds since the epoch. */
  startedWallMs: number;
  /** From the run's start to the last answer's end. */
  durationMs: number;
  clientCpu: ClientCpu;
  /** Ended by Ctrl-C: `records` is what was there. */
  isInterrupted: boolean;
}
