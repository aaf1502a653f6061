import { probabilityBlock, type StepOutput } from '../../device/device.ts';
import type { ProbabilityRow } from './probability-row.ts';

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

/** The same row's probabilities; undefined if the device made none. */
export function probabilitiesOf(
  output: Exclude<StepOutput, { kind: 'tokens' }>,
  index: number,
  vocabularySize: number,
): ProbabilityRow | undefined {
  if (output.kind !== 'logits' || !output.probabilities) return undefined;
  return {
    values: output.probabilities.values,
    start: index * vocabularySize,
    width: vocabularySize,
    blockSums: output.probabilities.blockSums,
    blockStart: index * Math.floor(vocabularySize / probabilityBlock),
  };
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
  const unrolledEnd = end - 3;
  // Four maxima that do not wait for each other: twice as fast as one.
  let a = Number.NEGATIVE_INFINITY;
  let b = a;
  let c = a;
  let d = a;
  let position = start;
  for (; position < unrolledEnd; position += 4) {
    const first = logits[position] as number;
    const second = logits[position + 1] as number;
    const third = logits[position + 2] as number;
    const fourth = logits[position + 3] as number;
    if (first > a) a = first;
    if (second > b) b = second;
    if (third > c) c = third;
    if (fourth > d) d = fourth;
  }
  for (; position < end; position++) {
    const logit = logits[position] as number;
    if (logit > a) a = logit;
  }
  const max = Math.max(a, b, c, d);
  return Number.isFinite(max) ? logits.indexOf(max, start) : -1;
}
