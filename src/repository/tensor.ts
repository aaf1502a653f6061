import { AssertionError, assert } from '../base/errors.ts';
import { RepositoryError } from './errors.ts';

/** Bytes of one element by datatype (KServe's names); 0 for BYTES, whose elements are a u32 length and so many bytes. */
export const elementBytes = {
  BOOL: 1,
  UINT8: 1,
  UINT16: 2,
  UINT32: 4,
  UINT64: 8,
  INT8: 1,
  INT16: 2,
  INT32: 4,
  INT64: 8,
  FP16: 2,
  BF16: 2,
  FP32: 4,
  FP64: 8,
  BYTES: 0,
} as const;

/** KServe's datatypes. */
export type DataType = keyof typeof elementBytes;

/** Narrows a client's word. */
export function isDataType(name: string): name is DataType {
  return Object.hasOwn(elementBytes, name);
}

/** One tensor of a request or a response, as it lies on the wire. */
export interface Tensor {
  readonly name: string;
  readonly datatype: DataType;
  /** With the batch dimension, where the model has one. */
  readonly shape: readonly number[];
  /** Little-endian, row-major, at any alignment; BYTES: each element a u32 length and so many bytes. */
  readonly data: Uint8Array;
  /** What Nereid's own models know of it beyond its bytes (`engine/marks.ts`). No wire carries it. */
  readonly mark?: TensorMark;
}

/** {@link Tensor.mark}: each kind of tensor has its own. */
export interface TensorMark {
  readonly kind: 'tokens' | 'words';
}

/** The elements that a shape holds; 1 for []. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const dimension of shape) count *= dimension;
  return count;
}

/** How a datatype's values lie in memory where JavaScript has an array for them; FP16 and BF16 as their bits. */
export interface ValuesOf {
  BOOL: Uint8Array;
  UINT8: Uint8Array;
  UINT16: Uint16Array;
  UINT32: Uint32Array;
  UINT64: BigUint64Array;
  INT8: Int8Array;
  INT16: Int16Array;
  INT32: Int32Array;
  INT64: BigInt64Array;
  FP16: Uint16Array;
  BF16: Uint16Array;
  FP32: Float32Array;
  FP64: Float64Array;
}

/** The datatypes with values of one size. */
export type NumericDataType = keyof ValuesOf;

type ArrayConstructor<T> = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => T;

const arrays: { [D in NumericDataType]: ArrayConstructor<ValuesOf[D]> } = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP16: Uint16Array,
  BF16: Uint16Array,
  FP32: Float32Array,
  FP64: Float64Array,
};

/** A tensor's values: a view where the alignment allows it, a copy else. The tensor must be of that datatype. */
export function valuesOf<D extends NumericDataType>(tensor: Tensor, datatype: D): ValuesOf[D] {
  // The text is only made when it is needed: this runs for every token.
  if (tensor.datatype !== datatype) {
    throw new AssertionError(`tensor ${tensor.name} is ${tensor.datatype}, not ${datatype}`);
  }
  const size = elementBytes[datatype];
  const aligned = tensor.data.byteOffset % size === 0 ? tensor.data : new Uint8Array(tensor.data);
  return new arrays[datatype](aligned.buffer, aligned.byteOffset, Math.floor(aligned.byteLength / size));
}

/** A tensor over an array's own memory. */
export function tensorOf<D extends NumericDataType>(
  name: string,
  datatype: D,
  shape: readonly number[],
  values: ValuesOf[D],
): Tensor {
  if (values.length !== elementCount(shape)) {
    throw new AssertionError(`${name}: ${values.length} values for shape [${shape}]`);
  }
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { name, datatype, shape, data };
}

/** One buffer for many small tensors: to make a buffer costs more than to write a token. */
const slabBytes = 64 * 1024;
let slab = new Int32Array(slabBytes / 4);
let slabAt = 0;

/** An INT32 tensor of a few values, in memory that it shares with others. */
export function smallInt32Tensor(
  name: string,
  shape: readonly number[],
  values: readonly number[],
  mark?: TensorMark,
): Tensor {
  const { length } = values;
  if (length * 4 > slabBytes / 4) return { ...tensorOf(name, 'INT32', shape, Int32Array.from(values)), mark };
  if (slabAt + length > slab.length) {
    slab = new Int32Array(slabBytes / 4);
    slabAt = 0;
  }
  const start = slabAt;
  for (let i = 0; i < length; i++) slab[slabAt++] = values[i] as number;
  return { name, datatype: 'INT32', shape, data: new Uint8Array(slab.buffer, start * 4, length * 4), mark };
}

/** A BYTES tensor of texts (as UTF-8) or raw byte strings. */
export function bytesTensor(
  name: string,
  shape: readonly number[],
  elements: readonly (string | Uint8Array)[],
): Tensor {
  assert(
    elements.length === elementCount(shape),
    `${name}: ${elements.length} elements for shape [${shape}]`,
  );
  return { name, datatype: 'BYTES', shape, data: encodeBytes(elements) };
}

/** Byte strings in KServe's form: each a little-endian u32 length and its bytes. */
export function encodeBytes(elements: readonly (string | Uint8Array)[]): Uint8Array {
  let length = 0;
  for (const element of elements) length += 4 + Buffer.byteLength(element);
  const data = Buffer.allocUnsafe(length);
  let at = 0;
  for (const element of elements) {
    const size = Buffer.byteLength(element);
    data.writeUInt32LE(size, at);
    if (typeof element === 'string') data.write(element, at + 4, 'utf8');
    else data.set(element, at + 4);
    at += 4 + size;
  }
  return data;
}

/**
 * The elements of a BYTES tensor's data, as views into it.
 * @throws RepositoryError INVALID_ARGUMENT where lengths and bytes do not fit each other, in Triton's words
 */
export function decodeBytes(data: Uint8Array, tensorName: string): Uint8Array[] {
  const elements: Uint8Array[] = [];
  let at = 0;
  while (at < data.length) {
    if (data.length - at < 4) {
      throw new RepositoryError(
        'INVALID_ARGUMENT',
        `incomplete string length indicator for inference input '${tensorName}', expecting ` +
          `${4} bytes but only ${data.length - at} bytes available`,
      );
    }
    const b = data;
    const size =
      ((b[at] as number) |
        ((b[at + 1] as number) << 8) |
        ((b[at + 2] as number) << 16) |
        ((b[at + 3] as number) << 24)) >>>
      0;
    at += 4;
    if (size > data.length - at) {
      throw new RepositoryError(
        'INVALID_ARGUMENT',
        `incomplete string data for inference input '${tensorName}', expecting string of length ${size} ` +
          `but only ${data.length - at} bytes available`,
      );
    }
    elements.push(data.subarray(at, at + size));
    at += size;
  }
  return elements;
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** The elements of a BYTES tensor as texts; bytes that are no UTF-8 become U+FFFD. @throws as {@link decodeBytes} */
export function textsOf(tensor: Tensor): string[] {
  return decodeBytes(tensor.data, tensor.name).map((bytes) => utf8.decode(bytes));
}

/** The same data under another name. */
export function renamed(tensor: Tensor, name: string): Tensor {
  const { datatype, shape, data, mark } = tensor;
  return mark ? { name, datatype, shape, data, mark } : { name, datatype, shape, data };
}
