import { argmax } from '../../device/argmax.ts';
import { probabilityBlock, type RowLogits } from '../../device/step.ts';
import type { ProbabilityRow } from './probability-row.ts';

/** One output row: the logits [start, start + width), one a token. */
export interface LogitRow {
  logits: Float32Array;
  start: number;
  width: number;
}

/** Row `index` of a step's logits. */
export function rowOf(logits: RowLogits, index: number, vocabularySize: number): LogitRow {
  return { logits: logits.values, start: index * vocabularySize, width: vocabularySize };
}

/** The same row's probabilities; undefined if the device made none. */
export function probabilitiesOf(
  { probabilities }: RowLogits,
  index: number,
  vocabularySize: number,
): ProbabilityRow | undefined {
  return (
    probabilities && {
      values: probabilities.values,
      start: index * vocabularySize,
      width: vocabularySize,
      blockSums: probabilities.blockSums,
      blockStart: index * Math.floor(vocabularySize / probabilityBlock),
    }
  );
}

/** Token of the logit at `position` (an index into `row.logits`). */
export function tokenAt(row: LogitRow, position: number): number {
  return position - row.start;
}

/** Where the row's largest logit lies, the first of equal ones; −1 when there is none that is finite. */
export function likeliest(row: LogitRow): number {
  return argmax(row.logits, row.start, row.width);
}
