/** Quick restarts in a row without a healthy spell between them. */
export const restartsInARowMax = 5;
/** A process that ran for so long was healthy: the count starts anew. */
export const healthyAfterMs = 60_000;
/** Pauses before quick restarts, doubling; and before each one after those, for ever: a shortage may end. */
const delayMs = { first: 50, max: 800, slow: 10_000 };

/** When a process that ended is started again. */
export interface Restart {
  delayMs: number;
  /** It ended too often: the pace is slow now, and whoever waits for it should know. */
  isSlow: boolean;
}

/** Decides after what pause a process that ended, or did not start, is started again. */
export class RestartBudget {
  readonly #max: number;
  #inARow = 0;
  /** NaN while it has not come up since the last {@link next}. */
  #startedMs = Number.NaN;

  constructor(restartsMax = restartsInARowMax) {
    this.#max = restartsMax;
  }

  /** The process is up. */
  started(): void {
    this.#startedMs = performance.now();
  }

  /** The process ended. */
  next(): Restart {
    if (performance.now() - this.#startedMs > healthyAfterMs) this.#inARow = 0;
    this.#startedMs = Number.NaN;
    if (this.#inARow >= this.#max) return { delayMs: delayMs.slow, isSlow: true };
    return { delayMs: Math.min(delayMs.first * 2 ** this.#inARow++, delayMs.max), isSlow: false };
  }
}
