import { type Clock, systemClock } from '../../base/clock.ts';

/** How long requests may be started in one turn of the event loop before others get theirs: probes, cancels, answers. */
export const turnMsMax = 10;

/**
 * Spreads the start of requests that came together over turns of the event loop. Two thousand at once are seconds of work (checks, texts to
 * tokens, frames to engines); done as they come, nothing else would be read meanwhile. In the order of their arrival.
 */
export class Turns {
  readonly #clock: Clock;
  readonly #waiting: (() => void)[] = [];
  #turnStartNs = 0;
  #isTurn = false;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** Requests that wait for a later turn. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Resolves when the caller may go on; undefined: at once. */
  take(): Promise<void> | undefined {
    const nowNs = this.#clock.nowNs();
    if (!this.#isTurn) {
      this.#isTurn = true;
      this.#turnStartNs = nowNs;
      setImmediate(() => this.#nextTurn());
    }
    if (this.#waiting.length === 0 && nowNs - this.#turnStartNs < turnMsMax * 1e6) return undefined;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #nextTurn(): void {
    this.#turnStartNs = this.#clock.nowNs();
    this.#isTurn = this.#waiting.length > 0;
    if (!this.#isTurn) return;
    this.#goOn();
    setImmediate(() => this.#nextTurn());
  }

  /** One after another, each when the one before has done what it does at once. */
  #goOn(): void {
    this.#waiting.shift()?.();
    if (this.#waiting.length === 0) return;
    // Behind the promises of the one that has just begun.
    queueMicrotask(() =>
      queueMicrotask(() => {
        if (this.#clock.nowNs() - this.#turnStartNs < turnMsMax * 1e6) this.#goOn();
      }),
    );
  }
}
