import { monotonicMs } from '../../base/monotonic.ts';

/** How long what was read is worked on before the event loop goes round: arrivals that are due meanwhile are this late at most. */
const sliceMs = 0.5;

/** How many pieces are worked on between two looks at the clock. */
const piecesPerLook = 8;

/**
 * Work on bytes that were read, done after all sockets that had some were read. A server that batches answers many requests in one
 * moment; if each socket's bytes were parsed as they are read, the last one's time would include the parsing of all others.
 */
export class DeferredReads {
  #waiting: (() => void)[] = [];
  #next = 0;
  #isScheduled = false;

  /** Does it later, in the order of the calls. */
  push(work: () => void): void {
    this.#waiting.push(work);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#work());
  }

  #work(): void {
    const endMs = monotonicMs() + sliceMs;
    for (;;) {
      for (let i = 0; i < piecesPerLook; i++) {
        const work = this.#waiting[this.#next];
        if (!work) {
          this.#waiting = [];
          this.#next = 0;
          this.#isScheduled = false;
          return;
        }
        this.#next++;
        work();
      }
      if (monotonicMs() > endMs) break;
    }
    setImmediate(() => this.#work());
  }
}
