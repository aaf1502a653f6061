import { assert } from '../base/errors.ts';

/** From Hugging Face's layout to the engine's. All of them only move elements, so they work on any unpacked type. */
export type WeightTransform =
  | { kind: 'none' }
  /** Rows [head][half][pair] become [head][pair][half]: rotary halves become neighbours, as GGUF `llama` stores q and k. */
  | { kind: 'ropePermutation'; heads: number }
  /** A matrix stored [in, out] (GPT-2's Conv1D) becomes [out, in]. */
  | { kind: 'transpose' };

/** A tensor of the checkpoint whose rows can be read. */
export interface TransformSource {
  /** As stored: [rows, columns], or [elements] for a vector. */
  shape: readonly number[];
  /** 1, 2, 4 or 8. */
  elementBytes: number;
  /** Bytes of whole stored rows; a vector is one row. */
  readRows(rowStart: number, rowCount: number): Uint8Array;
}

/** Stored rows that a transposition reads at once. */
const transposeRowsAtOnce = 256;

/** The shape after a transform. */
export function transformedShape(transform: WeightTransform, shape: readonly number[]): readonly number[] {
  return transform.kind === 'transpose' ? [...shape].reverse() : shape;
}

/**
 * Rows [rowStart, rowStart + rowCount) of the transformed tensor, reading no more of the source than they need: `none` those rows,
 * `ropePermutation` the heads around them, `transpose` all rows in turn, keeping only the wanted columns.
 */
export function transformRows(
  transform: WeightTransform,
  source: TransformSource,
  rowStart: number,
  rowCount: number,
): Uint8Array {
  if (transform.kind === 'none') return source.readRows(rowStart, rowCount);
  if (transform.kind === 'transpose') return transposeRows(source, rowStart, rowCount);
  if (source.shape.length === 1) {
    assert(rowStart === 0 && rowCount === 1, 'a vector has one row');
    return permuteVector(source, transform.heads);
  }
  return permuteRows(source, transform.heads, rowStart, rowCount);
}

/** Where row `row` of a permuted tensor comes from. Rows of a head: pair-major here, half-major in the source. */
export function permutedRow(row: number, rows: number, heads: number): number {
  const headRows = rows / heads;
  const head = Math.floor(row / headRows);
  const within = row % headRows;
  return head * headRows + (within % 2) * (headRows / 2) + Math.floor(within / 2);
}

function permuteRows(source: TransformSource, heads: number, rowStart: number, rowCount: number): Uint8Array {
  const [rows = 0, columns = 0] = source.shape;
  checkHeads(rows, heads);
  const headRows = rows / heads;
  const first = Math.floor(rowStart / headRows) * headRows;
  const last = Math.ceil((rowStart + rowCount) / headRows) * headRows;
  const read = source.readRows(first, last - first);
  const rowBytes = columns * source.elementBytes;
  const result = new Uint8Array(rowCount * rowBytes);
  for (let i = 0; i < rowCount; i++) {
    const from = (permutedRow(rowStart + i, rows, heads) - first) * rowBytes;
    result.set(read.subarray(from, from + rowBytes), i * rowBytes);
  }
  return result;
}

function permuteVector(source: TransformSource, heads: number): Uint8Array {
  const [elements = 0] = source.shape;
  const { elementBytes } = source;
  checkHeads(elements, heads);
  const read = source.readRows(0, 1);
  const result = new Uint8Array(elements * elementBytes);
  for (let i = 0; i < elements; i++) {
    const from = permutedRow(i, elements, heads) * elementBytes;
    result.set(read.subarray(from, from + elementBytes), i * elementBytes);
  }
  return result;
}

function checkHeads(rows: number, heads: number): void {
  assert(rows % (2 * heads) === 0, `${rows} rows are no whole number of pairs in ${heads} heads`);
}

function transposeRows(source: TransformSource, rowStart: number, rowCount: number): Uint8Array {
  const [rows = 0, columns = 0] = source.shape;
  const { elementBytes } = source;
  const result = new Uint8Array(rowCount * rows * elementBytes);
  for (let block = 0; block < rows; block += transposeRowsAtOnce) {
    const count = Math.min(transposeRowsAtOnce, rows - block);
    const read = source.readRows(block, count);
    for (let row = 0; row < count; row++) {
      for (let column = 0; column < rowCount; column++) {
        const from = (row * columns + rowStart + column) * elementBytes;
        const to = (column * rows + block + row) * elementBytes;
        for (let byte = 0; byte < elementBytes; byte++) result[to + byte] = read[from + byte] as number;
      }
    }
  }
  return result;
}
