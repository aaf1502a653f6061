import { constants } from 'node:buffer';
import { open } from 'node:fs/promises';
import { type DType, dtypes, rowBytes } from '../graph/dtype.ts';
import { FileSource, shortRead, withFile } from './byte-source.ts';
import { CheckpointError, fileError } from './errors.ts';

/** Where a tensor lies in a file. Nothing of it is in memory. */
export interface StoredTensor {
  name: string;
  dtype: DType;
  /** Row-major, outermost first (PyTorch's order; GGUF's `ne` reversed). `[]` is a scalar. */
  shape: readonly number[];
  /** The file that holds it. */
  path: string;
  /** Absolute byte offset of the first element in that file. */
  offset: number;
  byteLength: number;
}

/** Rows are what the last dimension runs along: `rows * rowBytes` is the tensor's `byteLength`. */
export interface RowLayout {
  rows: number;
  rowElements: number;
  rowBytes: number;
}

/** A run of whole rows. */
export interface TensorChunk {
  rowStart: number;
  rowCount: number;
  bytes: Buffer;
}

/** Default size of the chunks that {@link tensorChunks} yields. */
export const chunkBytesDefault = 16 * 1024 * 1024;

/** Elements of a shape: 1 for a scalar; may be beyond 2^53 (then inexact, and no file holds it). */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * Bytes that a tensor takes in a file.
 * @returns undefined when rows are no whole number of blocks, or the size is beyond 2^53
 */
export function tensorBytes(dtype: DType, shape: readonly number[]): number | undefined {
  const { blockElements, blockBytes } = dtypes[dtype];
  if ((shape.at(-1) ?? 1) % blockElements !== 0) return undefined;
  const elements = elementCount(shape);
  if (!Number.isSafeInteger(elements)) return undefined;
  const bytes = (elements / blockElements) * blockBytes;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** How many rows a tensor has, and how long they are. */
export function rowLayout(tensor: StoredTensor): RowLayout {
  const rowElements = tensor.shape.at(-1) ?? 1;
  return {
    rows: elementCount(tensor.shape.slice(0, -1)),
    rowElements,
    rowBytes: rowBytes(tensor.dtype, rowElements),
  };
}

interface Span {
  position: number;
  bytes: number;
}

function spanOf(tensor: StoredTensor, rowStart: number, rowCount: number | undefined): Span {
  const layout = rowLayout(tensor);
  const count = rowCount ?? layout.rows - rowStart;
  const whole = Number.isInteger(rowStart) && Number.isInteger(count);
  if (!whole || rowStart < 0 || count < 0 || rowStart + count > layout.rows) {
    const asked = `rows ${rowStart} to ${rowStart + count}`;
    throw new CheckpointError(
      'TENSOR_RANGE_INVALID',
      `${tensor.name} has ${layout.rows} rows; ${asked} were asked for`,
    );
  }
  return { position: tensor.offset + rowStart * layout.rowBytes, bytes: count * layout.rowBytes };
}

function targetOf(tensor: StoredTensor, span: Span, into: Uint8Array | undefined): Uint8Array {
  if (into) {
    if (into.length >= span.bytes) return into.subarray(0, span.bytes);
    const problem = `the buffer given for ${tensor.name} has ${into.length} bytes; ${span.bytes} are needed`;
    throw new CheckpointError('TENSOR_RANGE_INVALID', problem);
  }
  if (span.bytes > constants.MAX_LENGTH) {
    const problem = `${span.bytes} bytes of ${tensor.name} are more than one Buffer holds (${constants.MAX_LENGTH})`;
    throw new CheckpointError('TENSOR_TOO_LARGE', `${problem}; read it by rows or with tensorChunks()`);
  }
  // Never from Node's pool: the bytes start at offset 0 of their own ArrayBuffer, so typed arrays may view them.
  return Buffer.allocUnsafeSlow(span.bytes);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Reads whole rows of a tensor, raw as stored.
 * @param into where to put them (at least as long); default a new Buffer whose ArrayBuffer starts with them
 * @throws CheckpointError for rows out of range, a short `into`, more than one Buffer holds, or a file that shrank
 */
export function readTensor(tensor: StoredTensor, rowStart = 0, rowCount?: number, into?: Uint8Array): Buffer {
  return withFile(tensor.path, (source) => readFrom(source, tensor, rowStart, rowCount, into));
}

function readFrom(
  source: FileSource,
  tensor: StoredTensor,
  rowStart: number,
  rowCount: number | undefined,
  into: Uint8Array | undefined,
): Buffer {
  const span = spanOf(tensor, rowStart, rowCount);
  const target = targetOf(tensor, span, into);
  source.readInto(span.position, target);
  return asBuffer(target);
}

/** {@link readTensor} without blocking the event loop. */
export async function readTensorAsync(
  tensor: StoredTensor,
  rowStart = 0,
  rowCount?: number,
  into?: Uint8Array,
): Promise<Buffer> {
  const span = spanOf(tensor, rowStart, rowCount);
  const target = targetOf(tensor, span, into);
  const file = await open(tensor.path, 'r').catch((thrown) => {
    throw fileError(tensor.path, thrown);
  });
  try {
    let done = 0;
    while (done < target.length) {
      const length = Math.min(target.length - done, chunkBytesDefault);
      const { bytesRead } = await file.read(target, done, length, span.position + done);
      if (bytesRead === 0) throw shortRead(tensor.path, span.position + target.length);
      done += bytesRead;
    }
  } finally {
    await file.close();
  }
  return asBuffer(target);
}

/**
 * Reads a tensor of any size in order, a bounded number of rows at a time. Every chunk is a fresh Buffer.
 * @param chunkBytesMax a chunk is at most this long, but never less than one row
 */
export function* tensorChunks(
  tensor: StoredTensor,
  chunkBytesMax = chunkBytesDefault,
): Generator<TensorChunk, void> {
  const layout = rowLayout(tensor);
  if (layout.rows === 0 || layout.rowBytes === 0) return;
  const rowsAtOnce = Math.max(1, Math.floor(chunkBytesMax / layout.rowBytes));
  const source = new FileSource(tensor.path);
  try {
    for (let rowStart = 0; rowStart < layout.rows; rowStart += rowsAtOnce) {
      const rowCount = Math.min(rowsAtOnce, layout.rows - rowStart);
      yield { rowStart, rowCount, bytes: readFrom(source, tensor, rowStart, rowCount, undefined) };
    }
  } finally {
    source.close();
  }
}
