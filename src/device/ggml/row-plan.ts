import { rowEnds } from '../row-ends.ts';
import type { StepBatch } from '../step.ts';

/** Which rows a step's graph takes to its end. */
export interface RowPlan {
  /** Batch rows that go on behind the last attention. */
  outputRows: Int32Array;
  /** Of those, the ones that get logits; absent: all, and the graph gives no hidden states. */
  logitRows?: Int32Array;
  /** The same as rows of the batch. */
  logitBatchRows?: Int32Array;
  /** [R] where each output row's logits and hidden state are; absent with {@link logitRows}. */
  logitPlaces?: Int32Array;
  hiddenPlaces?: Int32Array;
}

/**
 * Rows that want hidden states are mostly either one a prompt (its last), or a prompt's every one. All rows of the batch are taken to the end in
 * the second case: few more are computed than are wanted, and one graph serves all counts of them.
 */
export function rowPlan({ tokens, segments, outputs }: StepBatch): RowPlan {
  const own = outputs.rows.subarray(0, outputs.count);
  const ends = rowEnds(outputs);
  if (!ends) return { outputRows: own };
  const { logitRows, logitPlaces } = ends;
  const logitBatchRows = logitRows.map((row) => own[row] as number);
  if (outputs.count <= segments.count) {
    const hiddenPlaces = own.map((_, row) => row);
    return { outputRows: own, logitRows, logitBatchRows, logitPlaces, hiddenPlaces };
  }
  return {
    outputRows: Int32Array.from(tokens, (_, row) => row),
    logitRows: logitBatchRows,
    logitBatchRows,
    logitPlaces,
    hiddenPlaces: own.slice(),
  };
}
