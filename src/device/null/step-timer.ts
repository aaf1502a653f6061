import type { StepOutput, StepResult } from '../step.ts';

/** Timers fire late by a millisecond or so; more debt than this is not carried over to the next step. */
const debtMsMax = 20;

/**
 * Makes steps last their time without spinning, one after the other however many are in flight: what one timer overslept, the next sleeps
 * less, so the average is right.
 */
export class StepTimer {
  readonly #stepMs: number;
  readonly #rowUs: number;
  /** When the device will have done all that was started, in `performance.now()`. */
  #busyUntilMs = 0;

  constructor(stepMs: number, rowUs: number) {
    this.#stepMs = stepMs;
    this.#rowUs = rowUs;
  }

  /** Starts a step of so many rows. @returns how to wait for its end: at once when no time is set */
  start(rows: number, output: StepOutput): () => StepResult | Promise<StepResult> {
    const durationMs = this.#stepMs + (rows * this.#rowUs) / 1000;
    if (durationMs === 0) return () => ({ output, computeNs: 0 });
    const nowMs = performance.now();
    const startMs = nowMs - this.#busyUntilMs > debtMsMax ? nowMs : this.#busyUntilMs;
    const endMs = startMs + durationMs;
    this.#busyUntilMs = endMs;
    const result = { output, computeNs: durationMs * 1e6 };
    return () => {
      const leftMs = Math.floor(endMs - performance.now());
      if (leftMs < 1) return result;
      return new Promise((resolve) => setTimeout(() => resolve(result), leftMs));
    };
  }
}
