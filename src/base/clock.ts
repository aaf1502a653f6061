/** Time as an argument, so that a seeded simulator can drive the real code. */
export interface Clock {
  /** Monotonic nanoseconds from an arbitrary start; a float64, exact to 1 ns for 104 days. */
  nowNs(): number;
  /** Wall-clock milliseconds since the epoch. */
  wallMs(): number;
}

const startNs = process.hrtime.bigint();

/** The machine's own clocks. */
export const systemClock: Clock = {
  nowNs: () => Number(process.hrtime.bigint() - startNs),
  wallMs: () => Date.now(),
};

/** A clock that moves only when told to, for tests and simulation. */
export class ManualClock implements Clock {
  #nowNs = 0;

  nowNs(): number {
    return this.#nowNs;
  }

  wallMs(): number {
    return this.#nowNs / 1e6;
  }

  advanceMs(milliseconds: number): void {
    this.#nowNs += milliseconds * 1e6;
  }
}
