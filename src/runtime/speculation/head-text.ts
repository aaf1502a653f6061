import { definite } from '../../base/errors.ts';
import type { KvPlace } from '../kv/kv-cache.ts';
import type { Sequence } from '../sequences/sequence.ts';
import type { DraftedText } from './drafted-text.ts';

/** Hidden states that wait for the head to be asked again; where more come, it begins anew behind them. */
export const hiddenStatesMax = 256;

/**
 * What a draft head holds of a sequence. Row r is the target's hidden state at position `start` + r with the token behind it; of drafts, which have no such state yet, the head's
 * own one. So it sees what the sequence said since it began to listen: its answer, and of the prompt the last token.
 */
export class HeadText implements DraftedText {
  readonly sequence: Sequence;
  computed = 0;
  drafts: number[] = [];
  draftsMax = 0;
  #place: KvPlace | undefined;
  /** Position of the first row. */
  #start = 0;
  /** Rows whose KV comes from the target's states. */
  #settled = 0;
  /** States of the rows behind them. */
  #states: Float32Array[] = [];
  /** The head's own, of each draft. */
  #own: Float32Array[] = [];

  constructor(sequence: Sequence) {
    this.sequence = sequence;
  }

  get place(): KvPlace {
    return definite(this.#place, "a head's place in its cache");
  }

  set place(place: KvPlace) {
    this.#place = place;
  }

  get isPlaced(): boolean {
    return this.#place !== undefined;
  }

  /** The target's state at a position. One that does not follow the one before begins anew. */
  listen(position: number, state: Float32Array): void {
    const follows = position === this.#start + this.#settled + this.#states.length;
    if (!follows || this.#states.length >= hiddenStatesMax) {
      this.#start = position;
      this.#settled = 0;
      this.#states = [];
    }
    this.#states.push(state);
  }

  /**
   * Goes on behind what the sequence says now. The rows of drafts before are computed again, from the target's states.
   * @param rowsMax of the head's context
   * @returns whether there is anything to start from
   */
  begin(draftsMax: number, rowsMax: number): boolean {
    this.drafts = [];
    this.#own = [];
    const last = this.#states.at(-1);
    const end = this.#start + this.#settled + this.#states.length;
    if (!last || end !== this.sequence.length - 1) return false;
    if (this.#known + draftsMax > rowsMax) {
      this.#start = end - 1;
      this.#settled = 0;
      this.#states = [last];
    }
    this.computed = this.#settled;
    this.draftsMax = Math.min(draftsMax, rowsMax);
    return true;
  }

  get #known(): number {
    return this.#settled + this.#states.length;
  }

  get length(): number {
    return this.#known + this.drafts.length;
  }

  get nextPosition(): number {
    return this.#start + this.length + 1;
  }

  get isDone(): boolean {
    return this.drafts.length >= this.draftsMax;
  }

  tokenAt(row: number): number {
    const position = this.#start + row + 1;
    const { sequence } = this;
    return position < sequence.length
      ? sequence.tokenAt(position)
      : (this.drafts[position - sequence.length] as number);
  }

  hiddenAt(row: number): Float32Array {
    const known = this.#known;
    const state = row < known ? this.#states[row - this.#settled] : this.#own[row - known];
    return definite(state, 'a hidden state');
  }

  advance(rows: number): void {
    this.computed += rows;
    if (this.computed < this.#known) return;
    this.#settled = this.#known;
    this.#states = [];
  }

  takeHidden(state: Float32Array): void {
    this.#own.push(state);
  }
}
