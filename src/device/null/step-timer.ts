import type { StepOutput, StepResult } from '../step.ts';

/** Timers fire late by a millisecond or so; more than this is not made up for: the machine was busy with something else. */
const latenessMsMax = 5;

/**
 * Makes steps last their time without spinning, one after the other however many are in flight. A step begins when it is launched, or when the
 * one before it ends; by how much the last timer overslept, the next step begins earlier, so that the average is right.
 */
export class StepTimer {
  readonly #stepMs: number;
  readonly #rowUs: number;
  /** When the device will have done all that was started, in `performance.now()`. */
  #busyUntilMs = 0;
  #lateMs = 0;

  constructor(stepMs: number, rowUs: number) {
    this.#stepMs = stepMs;
    this.#rowUs = rowUs;
  }

  /** Starts a step of so many rows. @returns how to wait for its end: at once when no time is set */
  start(rows: number, output: StepOutput): () => StepResult | Promise<StepResult> {
    const durationMs = this.#stepMs + (rows * this.#rowUs) / 1000;
    if (durationMs === 0) return () => ({ output, computeNs: 0 });
    const endMs = Math.max(this.#busyUntilMs, performance.now() - this.#lateMs) + durationMs;
    this.#lateMs = 0;
    this.#busyUntilMs = endMs;
    const result = { output, computeNs: durationMs * 1e6 };
    const done = (): StepResult => {
      this.#lateMs = Math.min(latenessMsMax, Math.max(0, performance.now() - endMs));
      return result;
    };
    return () => {
      const leftMs = Math.floor(endMs - performance.now());
      if (leftMs < 1) return done();
      return new Promise((resolve) => setTimeout(() => resolve(done()), leftMs));
    };
  }
}
