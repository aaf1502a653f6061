/** Restarts in a row without a healthy spell between them, before giving up. */
export const restartsInARowMax = 5;
/** A process that ran for so long was healthy: the count starts anew. */
export const healthyAfterMs = 60_000;
const delayMs = { first: 100, max: 10_000 };

/** Decides whether, and after what pause, a process that ended is started again. */
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

  /** The pause before the next start in milliseconds, or undefined: give up. */
  next(): number | undefined {
    if (performance.now() - this.#startedMs > healthyAfterMs) this.#inARow = 0;
    this.#startedMs = Number.NaN;
    if (this.#inARow >= this.#max) return undefined;
    return Math.min(delayMs.first * 2 ** this.#inARow++, delayMs.max);
  }
}
