import type { StepBatch } from '../step.ts';

/**
 * Rows of a prompt's chunk are padded to a multiple of this: up to seven rows more to compute, on average 2 ms of SmolLM2-135M, against 4 to 9 ms
 * for recording a graph for each length that comes.
 */
export const promptRowsMultiple = 8;

/**
 * Pads each prompt's chunk behind its last row, where the step has room for it. What the padding writes lies behind the sequence's end in its
 * own slot: nobody reads it, and the sequence's next rows are written over it.
 * @param batchTokensMax rows that a step may have
 * @param contextLength positions of a slot
 */
export function padPrompts(batch: StepBatch, batchTokensMax: number, contextLength: number): StepBatch {
  const { segments, tokens } = batch;
  const padding = new Int32Array(segments.count);
  let rows = tokens.length;
  for (let index = 0; index < segments.count; index++) {
    const own = segments.rows[index] as number;
    const more = paddingOf(own);
    if (rows + more > batchTokensMax || (segments.kvLength[index] as number) + more > contextLength) continue;
    padding[index] = more;
    rows += more;
  }
  return rows === tokens.length ? batch : padded(batch, padding, rows);
}

function paddingOf(rows: number): number {
  return rows <= promptRowsMultiple
    ? 0
    : (promptRowsMultiple - (rows % promptRowsMultiple)) % promptRowsMultiple;
}

function padded(batch: StepBatch, padding: Int32Array, rows: number): StepBatch {
  const { segments, outputs } = batch;
  const tokens = new Int32Array(rows);
  const positions = new Int32Array(rows);
  const outputRows = Int32Array.from(outputs.rows.subarray(0, outputs.count));
  let from = 0;
  let to = 0;
  let output = 0;
  for (let index = 0; index < segments.count; index++) {
    const own = segments.rows[index] as number;
    const end = from + own;
    tokens.set(batch.tokens.subarray(from, end), to);
    positions.set(batch.positions.subarray(from, end), to);
    for (; output < outputRows.length && (outputRows[output] as number) < end; output++) {
      outputRows[output] = (outputRows[output] as number) + to - from;
    }
    from = end;
    to += own;
    for (let more = padding[index] as number; more > 0; more--, to++) {
      positions[to] = (positions[to - 1] as number) + 1;
    }
  }
  const grown = (column: Int32Array) =>
    column.subarray(0, segments.count).map((value, i) => value + (padding[i] as number));
  return {
    ...batch,
    tokens,
    positions,
    segments: { ...segments, rows: grown(segments.rows), kvLength: grown(segments.kvLength) },
    outputs: { ...outputs, rows: outputRows },
  };
}
