import { RepositoryError } from '../../repository/errors.ts';
import type { Tensor, ValuesOf } from '../../repository/tensor.ts';
import {
  type DataType,
  decodeBytes,
  elementCount,
  encodeBytes,
  type NumericDataType,
  valuesOf,
} from '../../repository/tensor.ts';
import type { Json } from './json-parser.ts';
import {
  asArray,
  asBoolean,
  asDouble,
  asInteger,
  asString,
  asUnsigned,
  doubleText,
  prefixed,
} from './json-values.ts';

/** Values of tensors in JSON, both ways. FP16 and BF16 travel in binary only. */

type Reader = (value: Json) => number | bigint;

/** How an element is read; integers wrap around like tritonserver's casts. */
const readers: Readonly<Partial<Record<DataType, Reader>>> = {
  BOOL: (value) => (asBoolean(value) ? 1 : 0),
  UINT8: asUnsigned,
  UINT16: asUnsigned,
  UINT32: asUnsigned,
  UINT64: (value) => BigInt(asUnsigned(value)),
  INT8: asInteger,
  INT16: asInteger,
  INT32: asInteger,
  INT64: (value) => BigInt(asInteger(value)),
  FP32: asDouble,
  FP64: asDouble,
};

const arrays = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP32: Float32Array,
  FP64: Float64Array,
} as const;

/** The elements that a shape holds for tritonserver: a product in 64 bits, and none for a shape without dimensions. */
export function wireElementCount(shape: readonly (number | bigint)[]): bigint {
  if (shape.length === 0) return 0n;
  let count = 1n;
  for (const dimension of shape) count = BigInt.asIntN(64, count * BigInt(dimension));
  return count;
}

/** @throws RepositoryError INVALID_ARGUMENT for the types that JSON does not carry */
function refuseHalves(datatype: DataType, message: string): void {
  if (datatype !== 'FP16' && datatype !== 'BF16') return;
  throw new RepositoryError('INVALID_ARGUMENT', message);
}

/**
 * The data of an input, nested as the shape or flat.
 * @throws RepositoryError INTERNAL in tritonserver's words where it does not fit the type or the count
 */
export function dataOfJson(name: string, datatype: DataType, count: bigint, data: Json): Uint8Array {
  const via = `receiving ${datatype} data via JSON is not supported. Please use the binary data format for input ${name}`;
  refuseHalves(datatype, via);
  if (count === 0n) return new Uint8Array(0);
  if (datatype === 'BYTES') {
    const texts: string[] = [];
    prefixed('Unable to parse JSON bytes array', () =>
      flatten(asArray(data), (value) => texts.push(asString(value))),
    );
    // Their number is the model's check, as in binary data.
    return encodeBytes(texts);
  }
  return prefixed("Unable to parse 'data'", () => {
    const reader = readers[datatype] as Reader;
    const values: (number | bigint)[] = [];
    flatten(asArray(data), (value) => values.push(reader(value)));
    if (BigInt(values.length) !== count) throw countError();
    return numericData(datatype as keyof typeof arrays, values);
  });
}

function numericData(datatype: keyof typeof arrays, values: readonly (number | bigint)[]): Uint8Array {
  const typed = new arrays[datatype](values.length);
  const isWide = datatype === 'INT64' || datatype === 'UINT64';
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number | bigint;
    // Typed arrays keep the low bits of numbers; only bigints for narrow types need a hand.
    (typed as unknown as Record<number, number | bigint>)[i] =
      !isWide && typeof value === 'bigint' ? Number(BigInt.asIntN(32, value)) : value;
  }
  return new Uint8Array(typed.buffer);
}

/** Depth-first; nesting need not follow the shape, as with tritonserver. Depth is bounded by the parser. */
function flatten(values: readonly Json[], visit: (value: Json) => void): void {
  for (const value of values) {
    if (Array.isArray(value)) flatten(value, visit);
    else visit(value);
  }
}

function countError(): RepositoryError {
  return new RepositoryError('INTERNAL', "Shape does not match true shape of 'data' field");
}

/** Elements of one output in JSON: a million take about half a second and 20 MB. */
export const jsonElementsMax = 1_048_576;

/** An output's elements as JSON texts. @throws RepositoryError INVALID_ARGUMENT for FP16 and BF16, and for more than {@link jsonElementsMax} */
export function elementsAsJson(tensor: Tensor): string[] {
  const { datatype } = tensor;
  refuseHalves(
    datatype,
    `sending ${datatype} data via JSON is not supported. Please use the binary data format for output`,
  );
  if (elementCount(tensor.shape) > jsonElementsMax) {
    const problem = `output '${tensor.name}' has ${elementCount(tensor.shape)} elements, over the ${jsonElementsMax} of one in JSON`;
    throw new RepositoryError('INVALID_ARGUMENT', `${problem}; ask for binary_data, or over gRPC`);
  }
  if (datatype === 'BYTES') {
    return decodeBytes(tensor.data, tensor.name).map((bytes) =>
      JSON.stringify(Buffer.from(bytes).toString('utf8')),
    );
  }
  const values = Array.from(valuesOf(tensor, datatype as NumericDataType) as ValuesOf['FP64']);
  if (datatype === 'BOOL') return values.map((value) => (value === 0 ? 'false' : 'true'));
  if (datatype === 'FP32' || datatype === 'FP64') return values.map(doubleText);
  return values.map(String);
}

/** A tensor of JSON data, where the caller knows the shape. */
export function tensorOfJson(name: string, datatype: DataType, shape: readonly number[], data: Json): Tensor {
  return { name, datatype, shape, data: dataOfJson(name, datatype, wireElementCount(shape), data) };
}
