import { type OutputTable, want } from './step.ts';

/** In {@link RowEnds.logitPlaces}: the row gets no logits. */
export const noLogits = -1;

/** Which output rows get logits, in a step some of whose rows want their final hidden states. */
export interface RowEnds {
  /** [L] output rows, ascending: the network's input `logitRows`. */
  logitRows: Int32Array;
  /** [R] in which of the L rows an output row's logits are, or {@link noLogits}. */
  logitPlaces: Int32Array;
}

/** @returns undefined where no row wants its hidden state: every output row gets logits, in its own place */
export function rowEnds({ count, wants }: OutputTable): RowEnds | undefined {
  let all = 0;
  for (let row = 0; row < count; row++) all |= wants[row] as number;
  if ((all & want.hidden) === 0) return undefined;
  const logitRows: number[] = [];
  const logitPlaces = new Int32Array(count).fill(noLogits);
  for (let row = 0; row < count; row++) {
    if (((wants[row] as number) & (want.token | want.logits)) === 0) continue;
    logitPlaces[row] = logitRows.length;
    logitRows.push(row);
  }
  return { logitRows: Int32Array.from(logitRows), logitPlaces };
}
