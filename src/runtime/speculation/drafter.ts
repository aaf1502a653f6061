import type { Sequence } from '../sequences/sequence.ts';

/** A sequence that may get drafts, and how many at most. */
export interface DraftWish {
  readonly sequence: Sequence;
  readonly draftsMax: number;
}

/**
 * Guesses what sequences will say next. A guess may be wrong or missing: whatever it is, the texts stay the same; only their speed depends on it.
 */
export interface Drafter {
  readonly name: string;
  /**
   * Sets {@link Sequence.drafts} of those for which it knows something. All of them wait for their next step: their newest token is known, and it alone
   * is not computed. A drafter that runs on a device which answers later returns a promise; sequences may end meanwhile.
   */
  propose(wishes: readonly DraftWish[]): void | Promise<void>;
  /**
   * Of a drafter that starts from the model's final hidden states: takes the one of the sequence's last known token, a row of `values`. Whatever it keeps is a copy.
   */
  takeHidden?(sequence: Sequence, values: Float32Array, row: number): void;
  /** Forgets what it keeps of a sequence that ended. */
  forget(sequence: Sequence): void;
  close(): void;
}
