import { RuntimeError } from '../errors.ts';

/** Arrays that cross between ranks; their place in this list is their code. */
const columnTypes = [Int32Array, Float32Array, Float64Array, Uint8Array] as const;

export type Column = Int32Array | Float32Array | Float64Array | Uint8Array;

/** Numbers and arrays, in an order that sender and receiver know. */
export interface Columns {
  numbers: readonly number[];
  columns: readonly Column[];
}

/** What one message may hold. */
const countMax = 65_536;
const alignment = 8;
const aligned = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

/**
 * A plain binary value: u32 count of numbers, u32 count of columns, per column u32 type and u32 length, then the float64 numbers and the
 * columns, each from a multiple of 8 bytes on. Little-endian as every machine that runs ggml or CUDA is, so arrays are copied as they are.
 */
export function encodeColumns({ numbers, columns }: Columns): Uint8Array {
  const headerBytes = aligned(8 + columns.length * 8);
  const dataBytes = columns.reduce((sum, column) => sum + aligned(column.byteLength), 0);
  const bytes = new Uint8Array(headerBytes + numbers.length * 8 + dataBytes);
  const header = new Uint32Array(bytes.buffer, 0, headerBytes / 4);
  header[0] = numbers.length;
  header[1] = columns.length;
  new Float64Array(bytes.buffer, headerBytes, numbers.length).set(numbers);
  let at = headerBytes + numbers.length * 8;
  for (let index = 0; index < columns.length; index++) {
    const column = columns[index] as Column;
    header[2 + index * 2] = columnTypes.findIndex((type) => column instanceof type);
    header[3 + index * 2] = column.length;
    bytes.set(new Uint8Array(column.buffer, column.byteOffset, column.byteLength), at);
    at += aligned(column.byteLength);
  }
  return bytes;
}

/**
 * The inverse of {@link encodeColumns}: its arrays are views into `bytes`, which must start at a multiple of 8 in their buffer.
 * @throws RuntimeError `RANK_MESSAGE_INVALID` for bytes that no rank of this version sends
 */
export function decodeColumns(bytes: Uint8Array): { numbers: Float64Array; columns: Column[] } {
  const { buffer, byteOffset, byteLength } = bytes;
  if (byteOffset % alignment !== 0 || byteLength < 8) throw invalid('it has no header');
  const [numberCount = 0, columnCount = 0] = new Uint32Array(buffer, byteOffset, 2);
  if (numberCount > countMax || columnCount > countMax) throw invalid('it counts too much');
  let at = aligned(8 + columnCount * 8);
  if (at + numberCount * 8 > byteLength) throw invalid('it ends early');
  const header = new Uint32Array(buffer, byteOffset + 8, columnCount * 2);
  const numbers = new Float64Array(buffer, byteOffset + at, numberCount);
  at += numberCount * 8;
  const columns: Column[] = [];
  for (let index = 0; index < columnCount; index++) {
    const type = columnTypes[header[index * 2] as number];
    const length = header[index * 2 + 1] as number;
    if (!type) throw invalid(`column ${index} has no known type`);
    if (at + length * type.BYTES_PER_ELEMENT > byteLength) throw invalid('it ends early');
    columns.push(new type(buffer as ArrayBuffer, byteOffset + at, length));
    at += aligned(length * type.BYTES_PER_ELEMENT);
  }
  if (at !== byteLength) throw invalid('it goes on after its last column');
  return { numbers, columns };
}

function invalid(problem: string): RuntimeError {
  const message = `a message between ranks is damaged: ${problem}; all ranks must run the same Nereid`;
  return new RuntimeError('RANK_MESSAGE_INVALID', message);
}
