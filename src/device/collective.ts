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

/** Places one rank's columns [rows, width] into `joined` [rows, total] from column `first` on. */
export function placeColumns(
  own: Float32Array,
  width: number,
  joined: Float32Array,
  total: number,
  first: number,
): void {
  const rows = own.length / width;
  for (let row = 0; row < rows; row++) {
    joined.set(own.subarray(row * width, (row + 1) * width), row * total + first);
  }
}
