import { monotonicMs } from '../../base/monotonic.ts';
import type { RequestRecord } from '../record.ts';
import type { ChatMessage, Target } from '../target/target.ts';
import type { PlannedSession, Workload } from '../workload/plan.ts';
import { Exchange } from './exchange.ts';

/** Sessions made before the run starts, so that making prompts does not disturb it. */
export const preparedSessionsMax = 20_000;

/** One process's share of a load: sessions `first`, `first + stride`, … below `sessions`. */
export interface GeneratorOptions {
  target: Target;
  workload: Workload;
  first: number;
  stride: number;
  /** Sessions of the whole load; infinite where only {@link Generator.finish} ends it. */
  sessions: number;
  /** Arrival times of the whole load's sessions, from the start, or undefined for a closed loop. */
  offsetsMs?: Float64Array;
  /** Sessions in flight at most; in a closed loop so many are always in flight. */
  concurrency: number;
  worker: number;
  keepsText: boolean;
}

/** Makes load in this process: starts sessions in time, sends their turns one after the other, hands out a record for each. */
export class LoadGenerator {
  readonly #options: GeneratorOptions;
  readonly #prepared: PlannedSession[] = [];
  readonly #inFlight = new Set<Exchange>();
  #next: number;
  #sessionsInFlight = 0;
  #finishing = false;
  #timer: NodeJS.Timeout | undefined;
  #startMs = 0;
  #onRecord: (record: RequestRecord) => void = () => {};
  #resolve: () => void = () => {};

  /** Makes the share's first {@link preparedSessionsMax} sessions. */
  constructor(options: GeneratorOptions) {
    this.#options = options;
    this.#next = options.first;
    const { first, stride, sessions, workload } = options;
    const count = Number.isFinite(sessions) ? Math.ceil((sessions - first) / stride) : 0;
    for (let i = 0; i < Math.min(count, preparedSessionsMax); i++)
      this.#prepared.push(workload.session(first + i * stride));
  }

  /**
   * Runs until every session of the share has ended.
   * @param startMs the run's start on {@link monotonicMs}; may lie ahead
   */
  run(startMs: number, onRecord: (record: RequestRecord) => void): Promise<void> {
    this.#startMs = startMs;
    this.#onRecord = onRecord;
    return new Promise((resolve) => {
      this.#resolve = resolve;
      const aheadMs = startMs - monotonicMs();
      this.#timer = setTimeout(() => this.#pump(), Math.max(0, aheadMs));
    });
  }

  /** Starts no more sessions; those in flight end by themselves. */
  finish(): void {
    this.#finishing = true;
    clearTimeout(this.#timer);
    this.#settle();
  }

  /** Ends everything now; what was in flight is recorded as stopped. */
  stop(): void {
    this.finish();
    for (const exchange of [...this.#inFlight]) exchange.stop();
  }

  /** Starts what is due. */
  #pump(): void {
    if (this.#finishing) return;
    const { sessions, concurrency, offsetsMs, stride } = this.#options;
    while (this.#next < sessions && this.#sessionsInFlight < concurrency) {
      const dueMs = offsetsMs?.[this.#next];
      const waitMs = dueMs === undefined ? 0 : dueMs - (monotonicMs() - this.#startMs);
      if (waitMs > 0) {
        // A timer fires up to a millisecond late; waking earlier would mean spinning, on a core that the server may need.
        this.#timer = setTimeout(() => this.#pump(), waitMs);
        return;
      }
      const index = this.#next;
      this.#next += stride;
      this.#start(index, dueMs);
    }
    this.#settle();
  }

  #start(index: number, scheduledMs: number | undefined): void {
    const { workload, first, stride } = this.#options;
    const session = this.#prepared[(index - first) / stride] ?? workload.session(index);
    this.#sessionsInFlight++;
    this.#send(session, 0, [], scheduledMs);
  }

  #send(
    session: PlannedSession,
    turn: number,
    history: readonly ChatMessage[],
    scheduledMs: number | undefined,
  ): void {
    const { target, worker, keepsText } = this.#options;
    const question: ChatMessage = { role: 'user', content: session.turns[turn]?.text ?? '' };
    const messages = [...history, question];
    const exchange = new Exchange(
      session,
      turn,
      messages,
      { target, startMs: this.#startMs, worker, scheduledMs, keepsText },
      (ended) => {
        this.#inFlight.delete(ended);
        if (!keepsText) delete ended.record.text;
        this.#onRecord(ended.record);
        const goesOn = ended.record.outcome === 'completed' && turn + 1 < session.turns.length;
        if (goesOn && !this.#finishing)
          this.#send(session, turn + 1, [...messages, { role: 'assistant', content: ended.text }], undefined);
        else this.#ended();
      },
    );
    this.#inFlight.add(exchange);
  }

  #ended(): void {
    const wasFull = this.#sessionsInFlight >= this.#options.concurrency;
    this.#sessionsInFlight--;
    // In an open loop a timer is pending unless the limit held everything up.
    if (wasFull && !this.#finishing) {
      clearTimeout(this.#timer);
      this.#pump();
    } else this.#settle();
  }

  #settle(): void {
    if (this.#sessionsInFlight > 0) return;
    if (this.#finishing || this.#next >= this.#options.sessions) this.#resolve();
  }
}
