import { monotonicMs } from '../../base/monotonic.ts';
import { deferredReadsMax } from '../limits.ts';

/** How long what was read is worked on before the event loop goes round: arrivals that are due meanwhile are this late at most. */
const sliceMs = 0.5;

/** How many pieces are worked on between two looks at the clock. */
const piecesPerLook = 8;

/**
 * Work on bytes that were read, done after all sockets that had some were read. A server that batches answers many requests in one
 * moment; if each socket's bytes were parsed as they are read, the last one's time would include the parsing of all others. At most
 * {@link deferredReadsMax} pieces wait: beyond that each new one waits for the oldest to be worked on.
 */
export class DeferredReads {
  #waiting: (() => void)[] = [];
  #next = 0;
  #isScheduled = false;

  /** Does it later, in the order of the calls. */
  push(work: () => void): void {
    this.#waiting.push(work);
    if (this.#waiting.length - this.#next > deferredReadsMax) this.#workOne();
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#work());
  }

  #work(): void {
    const endMs = monotonicMs() + sliceMs;
    do {
      for (let i = 0; i < piecesPerLook; i++) {
        if (this.#workOne()) continue;
        this.#isScheduled = false;
        return;
      }
    } while (monotonicMs() <= endMs);
    setImmediate(() => this.#work());
  }

  /** @returns false where nothing waits */
  #workOne(): boolean {
    const work = this.#waiting[this.#next];
    if (!work) return false;
    this.#next++;
    if (this.#next === this.#waiting.length) {
      this.#waiting = [];
      this.#next = 0;
    } else if (this.#next > deferredReadsMax) {
      // What is done with is let go of, also where new pieces come all the time.
      this.#waiting = this.#waiting.slice(this.#next);
      this.#next = 0;
    }
    work();
    return true;
  }
}
