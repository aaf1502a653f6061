import { monotonicMs } from '../../base/monotonic.ts';
import type { Tokenizer } from '../../tokenizer/types.ts';
import { LoadError } from '../errors.ts';
import { concurrencyMax, requestsMax, workersMax } from '../limits.ts';
import type { RequestRecord } from '../record.ts';
import type { ClientCpu, LoadPlan, LoadResult } from './plan.ts';
import { type LoadShare, openShare } from './share.ts';
import { WorkerGroup } from './worker-group.ts';

/** A load that runs, as its owner sees it. */
export interface LoadControl {
  /** Starts no more sessions; those in flight end by themselves. */
  finish(): void;
}

/** What {@link runLoad} tells while it runs. */
export interface LoadHooks {
  /** Ctrl-C: everything in flight is ended and the result so far returned. */
  signal?: AbortSignal;
  /** After the warm-up, when the first session may start. */
  onStart?(control: LoadControl): void;
  onRecord?(record: RequestRecord): void;
}

/**
 * Makes a load and gathers its records.
 * @throws LoadError LOAD_OPTION_INVALID for a plan over a limit, LOAD_TARGET_UNREACHABLE or LOAD_TARGET_REFUSED when the warm-up fails, LOAD_WORKER_FAILED
 */
export async function runLoad(plan: LoadPlan, hooks: LoadHooks = {}): Promise<LoadResult> {
  checkLimits(plan);
  const own = plan.workers === 1 ? await openShare(plan, 0) : undefined;
  const group = own ? undefined : await WorkerGroup.start(plan);
  try {
    if (plan.warmupSessions > 0) await warmUp(plan, own, hooks.signal);
    if (hooks.signal?.aborted) return emptyResult();
    return await measure(plan, hooks, own ?? (group as WorkerGroup));
  } finally {
    own?.close();
    group?.stop();
  }
}

/** The warm-up needs no second process: a share of one worker makes it. */
async function warmUp(
  plan: LoadPlan,
  own: LoadShare | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const share = own ?? (await openShare({ ...plan, workers: 1, sessions: plan.sessions ? 1 : undefined }, 0));
  try {
    await share.warmUp(plan.warmupSessions, signal);
  } finally {
    if (!own) share.close();
  }
}

async function measure(
  plan: LoadPlan,
  { signal, onStart, onRecord }: LoadHooks,
  runner: LoadShare | WorkerGroup,
): Promise<LoadResult> {
  const records: RequestRecord[] = [];
  const take = (record: RequestRecord): void => {
    records.push(record);
    onRecord?.(record);
  };
  const onAbort = (): void => runner.stop();
  signal?.addEventListener('abort', onAbort, { once: true });
  const startedWallMs = Date.now();
  let startMs = 0;
  let timer: NodeJS.Timeout | undefined;
  const started = (atMs: number): void => {
    startMs = atMs;
    if (plan.durationMs !== undefined) timer = setTimeout(() => runner.finish(), plan.durationMs);
    onStart?.({ finish: () => runner.finish() });
  };
  let clientCpu: ClientCpu;
  try {
    if (runner instanceof WorkerGroup) clientCpu = await runner.run(started, take);
    else {
      started(monotonicMs());
      await runner.run(startMs, take);
      clientCpu = runner.cpu();
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
  if (plan.workload.tokenizerFolder) await countTokens(records, plan.workload.tokenizerFolder);
  const durationMs = records.reduce((last, record) => Math.max(last, record.sentMs + record.endMs), 0);
  records.sort((a, b) => a.session - b.session || a.turn - b.turn);
  return { records, startedWallMs, durationMs, clientCpu, isInterrupted: signal?.aborted ?? false };
}

/** Counts the tokens of answers whose server did not: the text, without special tokens (vLLM's way). Texts are there only if kept. */
async function countTokens(records: readonly RequestRecord[], folder: string): Promise<void> {
  const uncounted = records.filter(({ tokenCountSource, text }) => tokenCountSource === 'parts' && text);
  if (uncounted.length === 0) return;
  const { openTokenizer } = await import('../../tokenizer/open.ts');
  const tokenizer: Tokenizer = await openTokenizer(folder);
  for (const record of uncounted) {
    record.outputTokens = tokenizer.encode(record.text ?? '', { addSpecialTokens: false }).length;
    record.tokenCountSource = 'tokenizer';
  }
}

function emptyResult(): LoadResult {
  const clientCpu = { userMs: 0, systemMs: 0 };
  return { records: [], startedWallMs: Date.now(), durationMs: 0, clientCpu, isInterrupted: true };
}

function checkLimits({ pace, sessions, workers, durationMs }: LoadPlan): void {
  const concurrency = pace.kind === 'closed' ? pace.concurrency : (pace.concurrencyMax ?? 1);
  const checks: [string, number, number][] = [
    ['requests', sessions ?? 1, requestsMax],
    ['concurrency', concurrency, concurrencyMax],
    ['workers', workers, workersMax],
  ];
  for (const [what, value, most] of checks)
    if (!(Number.isInteger(value) && value >= 1 && value <= most))
      throw new LoadError('LOAD_OPTION_INVALID', `${value} ${what}; it takes an integer from 1 to ${most}`);
  if (durationMs !== undefined && !(durationMs > 0))
    throw new LoadError('LOAD_OPTION_INVALID', `a duration of ${durationMs} ms is not above 0`);
  if (pace.kind === 'closed' && workers > pace.concurrency)
    throw new LoadError(
      'LOAD_OPTION_INVALID',
      `${workers} workers for a concurrency of ${pace.concurrency}; each needs one request in flight at least`,
    );
}
