import { joinDelta, openDelta } from './joined-deltas.ts';
import type { GenerationDelta } from './sequence-text.ts';

/** Deltas that wait for a slow consumer one by one; from then on a sequence's next delta is joined to its last that waits. */
export const deltasWaitingMax = 1024;

/**
 * Deltas between a generation that is not held back (it would hold back its neighbours in the batch) and a consumer that takes its time. Nothing
 * is lost and order is kept, sequence by sequence: a consumer that falls behind gets larger deltas. What waits is bounded by
 * {@link deltasWaitingMax}, one more for each sequence, and by the text that a context can hold.
 */
export class DeltaQueue {
  readonly #max: number;
  readonly #deltas: GenerationDelta[] = [];
  /** By sequence, the last of its deltas that waits and may be added to. */
  readonly #open = new Map<number, GenerationDelta>();

  constructor(max: number = deltasWaitingMax) {
    this.#max = max;
  }

  get length(): number {
    return this.#deltas.length;
  }

  push(delta: GenerationDelta): void {
    const last = this.#open.get(delta.sequence);
    if (last) {
      // Even if others were taken meanwhile: nothing may overtake it.
      joinDelta(last, delta);
      return;
    }
    if (this.#deltas.length < this.#max) {
      this.#deltas.push(delta);
      return;
    }
    const own = openDelta(delta);
    this.#open.set(delta.sequence, own);
    this.#deltas.push(own);
  }

  take(): GenerationDelta | undefined {
    const delta = this.#deltas.shift();
    if (delta && this.#open.get(delta.sequence) === delta) this.#open.delete(delta.sequence);
    return delta;
  }
}
