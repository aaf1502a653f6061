import { closeSync, openSync, readSync, statSync } from 'node:fs';
import type { DType } from '../graph/dtype.ts';
import { CheckpointError, fileError } from './errors.ts';
import { elementCount, type StoredTensor, tensorBytes } from './tensor-file.ts';

/** numpy's type descriptions, little-endian, by the types that have them. numpy has no bf16: TensorRT-LLM stores it as raw 2-byte voids. */
const types: Readonly<Record<string, DType>> = {
  '<f4': 'f32',
  '<f2': 'f16',
  '|V2': 'bf16',
  '<i4': 'i32',
};

/** The largest header: numpy writes some 128 bytes. */
export const npyHeaderBytesMax = 65_536;
const dimensionsMax = 4;

/**
 * Opens a `.npy` file (numpy's format 1 to 3) as a tensor by position.
 * @throws CheckpointError for other files, other types, Fortran order, and sizes that the file does not have
 */
export function openNpy(path: string): StoredTensor {
  const { header, offset, sizeBytes } = readHeader(path);
  const description = /'descr':\s*'([^']{1,8})'/.exec(header)?.[1] ?? '';
  const dtype = types[description];
  if (!dtype) throw npyError(path, `its type '${description}' is none of ${Object.keys(types).join(', ')}`);
  if (!/'fortran_order':\s*False/.test(header)) throw npyError(path, 'it is in Fortran order');
  const sizes = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1];
  const shape = (sizes ?? '')
    .split(',')
    .map((size) => size.trim())
    .filter((size) => size !== '')
    .map(Number);
  const byteLength = tensorBytes(dtype, shape);
  const isShape = sizes !== undefined && shape.length >= 1 && shape.length <= dimensionsMax;
  if (!isShape || byteLength === undefined) throw npyError(path, `its shape (${sizes ?? ''}) is none`);
  if (offset + byteLength > sizeBytes) {
    const problem = `it has ${sizeBytes} bytes, too few for ${elementCount(shape)} elements`;
    throw npyError(path, problem);
  }
  return { name: path, dtype, shape, path, offset, byteLength };
}

function readHeader(path: string): { header: string; offset: number; sizeBytes: number } {
  const bytes = Buffer.alloc(12 + npyHeaderBytesMax);
  let length: number;
  let sizeBytes: number;
  try {
    sizeBytes = statSync(path).size;
    const file = openSync(path, 'r');
    try {
      length = readSync(file, bytes, 0, bytes.length, 0);
    } finally {
      closeSync(file);
    }
  } catch (thrown) {
    throw fileError(path, thrown);
  }
  if (length < 12 || bytes.toString('latin1', 0, 6) !== '\x93NUMPY')
    throw npyError(path, 'it is no .npy file');
  const isFirst = bytes[6] === 1;
  const headerBytes = isFirst ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8);
  const start = isFirst ? 10 : 12;
  if (headerBytes > npyHeaderBytesMax || start + headerBytes > length) {
    throw npyError(path, `its header of ${headerBytes} bytes is too long or cut off`);
  }
  return {
    header: bytes.toString('latin1', start, start + headerBytes),
    offset: start + headerBytes,
    sizeBytes,
  };
}

function npyError(path: string, problem: string): CheckpointError {
  return new CheckpointError('LORA_TENSOR_INVALID', `${path}: ${problem}; convert the adapter again`);
}
