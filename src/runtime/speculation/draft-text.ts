import type { KvPlace } from '../kv/kv-cache.ts';
import type { Sequence } from '../sequences/sequence.ts';
import type { DraftedText } from './drafted-text.ts';

/** What a draft model holds of a sequence, and what it guesses behind it: row r is the token at position r. */
export class DraftText implements DraftedText {
  readonly sequence: Sequence;
  readonly place: KvPlace;
  /** Positions whose KV the draft model has, of these tokens. */
  computed: number;
  drafts: number[] = [];
  /** How many are wanted. */
  draftsMax = 0;
  /** Tokens of the sequence when drafting began; the drafts follow. */
  #known = 0;

  constructor(sequence: Sequence, place: KvPlace) {
    this.sequence = sequence;
    this.place = place;
    this.computed = place.cached;
  }

  get length(): number {
    return this.#known + this.drafts.length;
  }

  get nextPosition(): number {
    return this.length;
  }

  advance(rows: number): void {
    this.computed += rows;
  }

  get isDone(): boolean {
    return this.drafts.length >= this.draftsMax;
  }

  tokenAt(position: number): number {
    return position < this.#known
      ? this.sequence.tokenAt(position)
      : (this.drafts[position - this.#known] as number);
  }

  /** Goes on behind what the sequence says now: of the drafts before, those stay computed that it has said since. */
  begin(draftsMax: number): void {
    const { sequence } = this;
    let valid = Math.min(this.computed, this.#known);
    // Before its first drafts, what is computed came from the cache and is the sequence's own.
    if (this.#known === 0) valid = this.computed;
    while (
      valid < this.computed &&
      valid < sequence.length &&
      this.tokenAt(valid) === sequence.tokenAt(valid)
    ) {
      valid++;
    }
    this.computed = Math.min(valid, sequence.length - 1);
    this.#known = sequence.length;
    this.drafts = [];
    this.draftsMax = draftsMax;
  }
}
