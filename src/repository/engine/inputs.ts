import { RepositoryError } from '../errors.ts';
import type { InferRequest } from '../model.ts';
import { type NumericDataType, type Tensor, textsOf, valuesOf } from '../tensor.ts';

/** A request's inputs, read row by row. Datatypes were checked against the declaration. */
export class Inputs {
  readonly #byName: ReadonlyMap<string, Tensor>;

  constructor(request: InferRequest) {
    this.#byName = new Map(request.inputs.map((tensor) => [tensor.name, tensor]));
  }

  get(name: string): Tensor | undefined {
    return this.#byName.get(name);
  }

  /** The first value of a row, as a number (64-bit ones rounded); undefined where the tensor is absent or empty. */
  number(name: string, row: number): number | undefined {
    const value = this.#value(name, row);
    return value === undefined ? undefined : Number(value);
  }

  /** A row's text of a BYTES tensor of one a row. */
  text(name: string, row: number): string | undefined {
    const tensor = this.#byName.get(name);
    return tensor?.datatype === 'BYTES' ? textsOf(tensor)[row] : undefined;
  }

  truth(name: string, row: number): boolean {
    return (this.number(name, row) ?? 0) !== 0;
  }

  /** @throws RepositoryError INVALID_ARGUMENT naming the tensor */
  required(name: string, row: number): number {
    const value = this.number(name, row);
    if (value !== undefined) return value;
    throw new RepositoryError('INVALID_ARGUMENT', `the input '${name}' is missing or empty; send it`);
  }

  /** A row's values of an INT32 or FP32 tensor. */
  row<D extends 'INT32' | 'FP32'>(
    name: string,
    datatype: D,
    row: number,
  ): ReturnType<typeof valuesOf<D>> | undefined {
    const tensor = this.#byName.get(name);
    if (!tensor) return undefined;
    const values = valuesOf(tensor, datatype);
    const rowLength = values.length / Math.max(1, tensor.shape[0] ?? 1);
    return values.subarray(row * rowLength, (row + 1) * rowLength) as ReturnType<typeof valuesOf<D>>;
  }

  #value(name: string, row: number): number | bigint | undefined {
    const tensor = this.#byName.get(name);
    if (!tensor || tensor.datatype === 'BYTES') return undefined;
    const values = valuesOf(tensor, tensor.datatype as NumericDataType);
    const rowLength = values.length / Math.max(1, tensor.shape[0] ?? 1);
    return values[row * rowLength];
  }
}
