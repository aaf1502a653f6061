import type { Clock } from '../../base/clock.ts';
import type { SequenceGuide } from './sequence-guide.ts';

/**
 * How long the rows of one step together may wait for masks that are late. A little is cheaper than to put a row off: that costs it a step, and every
 * later step a row.
 */
export class StepPatience {
  readonly #clock: Clock;
  readonly #waitMs: number;
  #leftMs = 0;

  constructor(clock: Clock, waitMs: number) {
    this.#clock = clock;
    this.#waitMs = waitMs;
  }

  /** A step was collected. */
  begin(): void {
    this.#leftMs = this.#waitMs;
  }

  /** Whether a guide has answered, or does while there is patience left. */
  isAnswered(guide: SequenceGuide): boolean {
    if (guide.isAnswered) return true;
    if (this.#leftMs <= 0) return false;
    const startNs = this.#clock.nowNs();
    const isThere = guide.wait(this.#leftMs);
    // Who waited in vain has used it up.
    this.#leftMs = isThere ? this.#leftMs - (this.#clock.nowNs() - startNs) / 1e6 : 0;
    return isThere;
  }
}
