import type { StepOutput } from '../../device/device.ts';

/** One output row: the logits [start, start + width) and whose tokens they are. */
export interface LogitRow {
  logits: Float32Array;
  start: number;
  width: number;
  /** Token of each logit, by the same index; absent when a logit's offset from `start` is its token. */
  ids: Int32Array | undefined;
}

/** Row `index` of a step's output. */
export function rowOf(
  output: Exclude<StepOutput, { kind: 'tokens' }>,
  index: number,
  vocabularySize: number,
): LogitRow {
  if (output.kind === 'logits') {
    return { logits: output.logits, start: index * vocabularySize, width: vocabularySize, ids: undefined };
  }
  return { logits: output.logits, start: index * output.perRow, width: output.perRow, ids: output.ids };
}

/** Token of the logit at `position` (an index into `row.logits`). */
export function tokenAt(row: LogitRow, position: number): number {
  return row.ids ? (row.ids[position] as number) : position - row.start;
}

/**
 * Where the largest logit lies, the first of equal ones; −1 when there is none that is finite: every token is banned, or the model
 * made NaN or infinity. NaN among finite ones counts as impossible.
 */
export function argmax(row: LogitRow): number {
  const { logits, start } = row;
  const end = start + row.width;
  let best = -1;
  let max = Number.NEGATIVE_INFINITY;
  for (let position = start; position < end; position++) {
    const logit = logits[position] as number;
    if (logit > max) {
      max = logit;
      best = position;
    }
  }
  return max < Number.POSITIVE_INFINITY ? best : -1;
}
