/**
 * What the next step holds. Pure functions over plain facts, so that properties and a seeded simulator can drive them with no device.
 * Rows of one step share one token budget; generation rows come first, since every one of them is somebody waiting for a token.
 */

/** What scheduling must know of a sequence. */
export interface Schedulable {
  readonly priority: number;
  readonly arrival: number;
  /** Among its request's sequences. */
  readonly index: number;
  readonly rowsPending: number;
  readonly rowsPerStepMax: number;
}

/** Rows of one sequence in the step. */
export interface PlannedRows<S extends Schedulable> {
  sequence: S;
  rows: number;
}

/** Higher priority first, then earlier arrival, then the request's own order. */
export function compareUrgency(a: Schedulable, b: Schedulable): number {
  return b.priority - a.priority || a.arrival - b.arrival || a.index - b.index;
}

/**
 * Shares one step's token budget: a row for each sequence in its generation phase, then chunks of prompts in order of urgency. A
 * long prompt cannot starve: generation rows take at most one row a sequence, and a prompt in front of it ends.
 * @param running by urgency, each with at least one row pending
 * @param batchTokensMax at least as many as sequences may run, so that no generation row ever waits
 */
export function planBatch<S extends Schedulable>(
  running: readonly S[],
  batchTokensMax: number,
): PlannedRows<S>[] {
  const planned: PlannedRows<S>[] = [];
  let budget = batchTokensMax;
  for (const sequence of running) {
    if (sequence.rowsPending !== 1 || budget === 0) continue;
    planned.push({ sequence, rows: 1 });
    budget--;
  }
  for (const sequence of running) {
    if (budget === 0) break;
    if (sequence.rowsPending === 1) continue;
    const rows = Math.min(sequence.rowsPending, sequence.rowsPerStepMax, budget);
    planned.push({ sequence, rows });
    budget -= rows;
  }
  return planned;
}

/** A queue ordered by urgency. */
export class UrgencyQueue<S extends Schedulable> {
  readonly #items: S[] = [];

  get items(): readonly S[] {
    return this.#items;
  }

  add(item: S): void {
    this.#items.splice(this.#indexOf(item), 0, item);
  }

  /** Removes an item that is in it; false if it was not. */
  remove(item: S): boolean {
    const index = this.#indexOf(item);
    if (this.#items[index] !== item) return false;
    this.#items.splice(index, 1);
    return true;
  }

  /** Where the item is or belongs: the first place whose item is not more urgent. */
  #indexOf(item: S): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.#items[middle];
      if (other && compareUrgency(other, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
