import { RepositoryError } from '../../repository/errors.ts';
import type { Model } from '../../repository/model.ts';
import {
  bytesTensor,
  type NumericDataType,
  type Tensor,
  type ValuesOf,
  valuesOf,
} from '../../repository/tensor.ts';
import type { RegionRange, SharedMemory } from './shared-memory.ts';

/** How one requested output is to be answered. */
export interface OutputWish {
  name: string;
  /** HTTP: as bytes behind the JSON. gRPC answers are always raw. */
  isBinary: boolean;
  /** Top classes instead of values; 0: the values. */
  classCount: number;
  /** Into shared memory instead of into the response. */
  sharedMemory?: RegionRange;
}

/** An output as it goes on the wire. */
export interface WireOutput {
  tensor: Tensor;
  isBinary: boolean;
  /** Set: the data lies in shared memory, and the response has none. */
  sharedMemory?: RegionRange;
}

/** Applies the wishes of a request to a response's tensors: classification, shared memory, form. */
export function wireOutputs(
  outputs: readonly Tensor[],
  wishes: ReadonlyMap<string, OutputWish>,
  defaultIsBinary: boolean,
  model: Model,
  sharedMemory: SharedMemory,
): WireOutput[] {
  return outputs.map((output) => {
    const wish = wishes.get(output.name);
    if (!wish) return { tensor: output, isBinary: defaultIsBinary };
    const tensor = wish.classCount > 0 ? classes(output, wish.classCount, model) : output;
    if (wish.sharedMemory) place(tensor, wish.sharedMemory, sharedMemory);
    return { tensor, isBinary: wish.isBinary, sharedMemory: wish.sharedMemory };
  });
}

function place(tensor: Tensor, range: RegionRange, sharedMemory: SharedMemory): void {
  if (tensor.data.length > range.byteSize) {
    throw new RepositoryError(
      'INTERNAL',
      `shared memory size specified with the request for output '${tensor.name}' (${range.byteSize} bytes) ` +
        `should be at least ${tensor.data.length} bytes to hold the results`,
    );
  }
  if (tensor.data.length > 0) sharedMemory.write(range, tensor.data);
}

/** The classification extension: of each row of the batch the highest values as "value:index[:label]". */
function classes(tensor: Tensor, count: number, model: Model): Tensor {
  const { datatype, name } = tensor;
  if (datatype === 'BYTES' || datatype === 'BOOL' || datatype === 'FP16' || datatype === 'BF16') {
    const message = `class result not available for output '${name}' due to unsupported type '${datatype}'`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  const values = Array.from(valuesOf(tensor, datatype as NumericDataType) as ValuesOf['FP64']);
  const isBatched = model.config.max_batch_size > 0;
  const rows = isBatched ? (tensor.shape[0] ?? 0) : 1;
  const width = rows === 0 ? 0 : values.length / rows;
  const kept = Math.min(count, width);
  const labels = model.labels(name);
  const texts: string[] = [];
  for (let row = 0; row < rows; row++) {
    const line = values.slice(row * width, (row + 1) * width);
    const order = line.map((_, index) => index).sort((a, b) => Number(line[b]) - Number(line[a]) || a - b);
    for (const index of order.slice(0, kept)) {
      const label = labels?.[index];
      const value = line[index] as number;
      const text = datatype === 'FP32' || datatype === 'FP64' ? value.toFixed(6) : String(value);
      texts.push(`${text}:${index}${label ? `:${label}` : ''}`);
    }
  }
  return bytesTensor(name, isBatched ? [rows, kept] : [kept], texts);
}
