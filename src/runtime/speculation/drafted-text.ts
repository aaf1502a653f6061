import type { KvPlace } from '../kv/kv-cache.ts';
import type { Sequence } from '../sequences/sequence.ts';

/** What a draft model holds of a sequence, row by row, and what it guesses behind it. */
export interface DraftedText {
  readonly sequence: Sequence;
  readonly place: KvPlace;
  /** Rows that it has the KV of. */
  readonly computed: number;
  /** Rows that the next draft needs. */
  readonly length: number;
  /** Of the token that the last row gives, in the sequence. */
  readonly nextPosition: number;
  drafts: number[];
  /** How many are wanted. */
  draftsMax: number;
  readonly isDone: boolean;
  tokenAt(row: number): number;
  /** So many rows more were computed. */
  advance(rows: number): void;
  /** What a row starts from beside its token, of a draft head. */
  hiddenAt?(row: number): Float32Array;
  /** What the row of the newest draft gave. */
  takeHidden?(state: Float32Array): void;
}
