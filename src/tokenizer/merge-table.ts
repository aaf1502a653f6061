/** Most merges a vocabulary may have; the largest known have under 600,000. */
export const mergesMax = 8_000_000;

/** A merge of two adjacent tokens into one; the lowest rank goes first, and of equal ranks the leftmost. */
export interface Merge {
  left: number;
  right: number;
  rank: number;
  result: number;
}

const entryWords = 4;

/** (left id, right id) → (rank, merged id): open addressing over one Int32Array, since a lookup per pair is what BPE costs. */
export class MergeTable {
  readonly #entries: Int32Array;
  readonly #mask: number;

  constructor(merges: readonly Merge[]) {
    let slots = 16;
    while (slots < merges.length * 2) slots *= 2;
    this.#mask = slots - 1;
    this.#entries = new Int32Array(slots * entryWords).fill(-1);
    for (const merge of merges) this.#insert(merge);
  }

  #slot(left: number, right: number): number {
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash ^= hash >>> 15;
    return hash & this.#mask;
  }

  #insert({ left, right, rank, result }: Merge): void {
    const entries = this.#entries;
    let slot = this.#slot(left, right);
    for (; entries[slot * entryWords] !== -1; slot = (slot + 1) & this.#mask) {
      const at = slot * entryWords;
      // A pair listed twice keeps its later rank, as the `tokenizers` library's map does.
      if (entries[at] === left && entries[at + 1] === right) break;
    }
    entries.set([left, right, rank, result], slot * entryWords);
  }

  /** The entry of a pair, for {@link rankAt} and {@link resultAt}; −1 if the two do not merge. */
  find(left: number, right: number): number {
    const entries = this.#entries;
    for (let slot = this.#slot(left, right); ; slot = (slot + 1) & this.#mask) {
      const at = slot * entryWords;
      if (entries[at] === -1) return -1;
      if (entries[at] === left && entries[at + 1] === right) return at;
    }
  }

  rankAt(entry: number): number {
    return this.#entries[entry + 2] as number;
  }

  resultAt(entry: number): number {
    return this.#entries[entry + 3] as number;
  }
}
