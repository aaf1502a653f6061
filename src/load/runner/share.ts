import { monotonicMs } from '../../base/monotonic.ts';
import { arrivalOffsetsMs } from '../arrivals.ts';
import { LoadError } from '../errors.ts';
import type { RequestRecord } from '../record.ts';
import { targetFailure } from '../target/failure.ts';
import { targets } from '../target/registry.ts';
import { openWorkload } from '../workload/open.ts';
import { LoadGenerator } from './generator.ts';
import type { ClientCpu, LoadPlan } from './plan.ts';

/** Where the warm-up's sessions begin: beyond any plan's, so that no prompt of the run is in a prefix cache because of them. */
export const warmupFirstSession = 2 ** 31;

/** One process's part of a load, opened: dataset read, prompts made, connections possible. */
export interface LoadShare {
  /** Runs it; `startMs` is the run's start on the machine's monotonic clock. */
  run(startMs: number, onRecord: (record: RequestRecord) => void): Promise<void>;
  /** Starts no more. */
  finish(): void;
  /** Ends everything. */
  stop(): void;
  /**
   * Sends sessions that leave no record; `signal` ends them.
   * @throws LoadError LOAD_TARGET_UNREACHABLE, LOAD_TARGET_REFUSED with what the first failed one said
   */
  warmUp(sessions: number, signal?: AbortSignal): Promise<void>;
  /** CPU time of this process since {@link run} began. */
  cpu(): ClientCpu;
  close(): void;
}

/** Opens worker `worker`'s share of the plan. @throws LoadError, TokenizerError */
export async function openShare(plan: LoadPlan, worker: number): Promise<LoadShare> {
  const row = await targets.load(plan.target.kind);
  const workload = await openWorkload(plan.workload);
  const target = await row.open(plan.target);
  const concurrency = concurrencyOf(plan, worker);
  const shared = { target, workload, worker, keepsText: plan.keepsText };
  const generator = new LoadGenerator({
    ...shared,
    first: worker,
    stride: plan.workers,
    sessions: plan.sessions ?? Number.POSITIVE_INFINITY,
    offsetsMs: offsetsOf(plan),
    concurrency,
  });
  let before = process.cpuUsage();
  return {
    run: (startMs, onRecord) => {
      before = process.cpuUsage();
      return generator.run(startMs, onRecord);
    },
    finish: () => generator.finish(),
    stop: () => generator.stop(),
    warmUp: async (count, signal) => {
      const first = warmupFirstSession;
      const limited = {
        first,
        stride: 1,
        sessions: first + count,
        concurrency: Math.min(concurrency, count),
      };
      const records: RequestRecord[] = [];
      const warming = new LoadGenerator({ ...shared, ...limited });
      const onAbort = (): void => warming.stop();
      signal?.addEventListener('abort', onAbort, { once: true });
      await warming.run(monotonicMs(), (record) => records.push(record));
      signal?.removeEventListener('abort', onAbort);
      const failed = records.find(({ outcome }) => outcome === 'failed');
      if (failed)
        throw targetFailure(plan.target.url, 'a warm-up request', failed.error ?? 'no reason given');
    },
    cpu: () => {
      const { user, system } = process.cpuUsage(before);
      return { userMs: user / 1000, systemMs: system / 1000 };
    },
    close: () => target.close(),
  };
}

/** A worker's part of the sessions in flight; the first workers get what does not divide evenly. */
function concurrencyOf({ pace, workers }: LoadPlan, worker: number): number {
  const all = pace.kind === 'closed' ? pace.concurrency : pace.concurrencyMax;
  if (all === undefined) return Number.POSITIVE_INFINITY;
  return Math.floor(all / workers) + (worker < all % workers ? 1 : 0);
}

function offsetsOf({ pace, sessions, workload }: LoadPlan): Float64Array | undefined {
  if (pace.kind === 'closed') return undefined;
  if (sessions === undefined)
    throw new LoadError('LOAD_OPTION_INVALID', 'an open loop needs a number of requests');
  return arrivalOffsetsMs(pace.arrivals, sessions, workload.seed);
}
