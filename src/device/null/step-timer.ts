import { systemClock } from '../../base/clock.ts';
import type { StepOutput, StepResult } from '../device.ts';

/** Timers fire late by a millisecond or so; more debt than this is not carried over to the next step. */
const debtMsMax = 20;

/** Makes a step last its time without spinning: what one timer overslept, the next sleeps less, so the average is right. */
export class StepTimer {
  readonly #stepMs: number;
  readonly #rowUs: number;
  #owedMs = 0;

  constructor(stepMs: number, rowUs: number) {
    this.#stepMs = stepMs;
    this.#rowUs = rowUs;
  }

  /** The step's result, at once when no time is set. */
  finish(rows: number, output: StepOutput): StepResult | Promise<StepResult> {
    const durationMs = this.#stepMs + (rows * this.#rowUs) / 1000;
    if (durationMs === 0) return { output, computeNs: 0 };
    this.#owedMs += durationMs;
    const startNs = systemClock.nowNs();
    const done = (): StepResult => {
      const computeNs = systemClock.nowNs() - startNs;
      this.#owedMs = Math.max(this.#owedMs - computeNs / 1e6, -debtMsMax);
      return { output, computeNs };
    };
    const sleepMs = Math.floor(this.#owedMs);
    if (sleepMs < 1) return done();
    return new Promise((resolve) => setTimeout(() => resolve(done()), sleepMs));
  }
}
