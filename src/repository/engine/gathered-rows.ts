import type { Execution } from '../execution.ts';
import { elementBytes, elementCount, type Tensor } from '../tensor.ts';

/** One response for all rows of a batch, as the static runtime answers: each row padded to the longest. */
export class GatheredRows {
  readonly #execution: Execution;
  readonly #padId: number;
  readonly #rows: (Tensor[] | undefined)[];
  #open: number;

  /** @param padId what output_ids are padded with; default −1 */
  constructor(execution: Execution, padId = -1) {
    this.#execution = execution;
    this.#padId = padId;
    this.#rows = Array.from({ length: execution.batchSize });
    this.#open = execution.batchSize;
  }

  /** A row's outputs, each [1, …]. The last row to come sends the response. */
  add(row: number, outputs: Tensor[]): void {
    this.#rows[row] = outputs;
    if (--this.#open > 0) return;
    const rows = this.#rows.flatMap((one) => (one ? [one] : []));
    const outputsOfAll = (rows[0] ?? []).map((first, index) =>
      stacked(
        first.name,
        rows.flatMap((one) => one[index] ?? []),
        first.name === 'output_ids' ? this.#padId : 0,
      ),
    );
    this.#execution.respond({ outputs: outputsOfAll }, true);
  }
}

/** Tensors of 4-byte elements on top of each other, their last dimension padded. */
function stacked(name: string, tensors: readonly Tensor[], padding: number): Tensor {
  const [first] = tensors as [Tensor, ...Tensor[]];
  const length = Math.max(...tensors.map(({ shape }) => shape.at(-1) ?? 1));
  const shape = [tensors.length, ...first.shape.slice(1, -1), length];
  const size = elementBytes[first.datatype];
  const data = new Uint8Array(elementCount(shape) * size);
  if (first.datatype === 'INT32') new Int32Array(data.buffer).fill(padding);
  let at = 0;
  for (const tensor of tensors) {
    const own = (tensor.shape.at(-1) ?? 1) * size;
    for (let from = 0; from < tensor.data.length; from += own) {
      data.set(tensor.data.subarray(from, from + own), at);
      at += length * size;
    }
  }
  return { name, datatype: first.datatype, shape, data };
}
