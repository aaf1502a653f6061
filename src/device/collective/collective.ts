/**
 * What the ranks of a tensor-parallel group do together. Every rank calls the same operations in the same order with the same sizes; each
 * waits for all others. Sums are taken in rank order, so that every rank gets the same bits. A call that can finish at once returns nothing,
 * else a promise.
 */
export interface Collective {
  readonly rank: number;
  readonly ranks: number;
  /**
   * Replaces `values` by the sum over the group.
   * @throws DeviceError `DEVICE_FAILED` when another rank is gone, or does not come within the deadline
   */
  allReduce(values: Float32Array): void | Promise<void>;
  /**
   * Joins every rank's columns: `own` [rows, widths[rank]] of each into `joined` [rows, sum of widths].
   * @throws DeviceError as {@link allReduce}
   */
  allGather(own: Float32Array, widths: readonly number[], joined: Float32Array): void | Promise<void>;
  close(): void;
}

/** Where one rank's columns lie in the joined rows. */
export interface Columns {
  /** Columns of this rank, and the first of them in a joined row. */
  width: number;
  first: number;
  /** Columns of a joined row. */
  total: number;
}

/** The columns of one rank. */
export function columnsOf(widths: readonly number[], rank: number): Columns {
  const sum = (own: readonly number[]) => own.reduce((total, width) => total + width, 0);
  return { width: widths[rank] ?? 0, first: sum(widths.slice(0, rank)), total: sum(widths) };
}

/** Copies elements [start, start + part.length) of one rank's [rows, width] into `joined` [rows, total]. */
export function placeColumns(
  part: Float32Array,
  start: number,
  { width, first, total }: Columns,
  joined: Float32Array,
): void {
  let at = 0;
  while (at < part.length) {
    const column = (start + at) % width;
    const row = (start + at - column) / width;
    const count = Math.min(width - column, part.length - at);
    joined.set(part.subarray(at, at + count), row * total + first + column);
    at += count;
  }
}
