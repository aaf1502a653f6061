import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { definite } from '../base/errors.ts';
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

/** An array in memory, as its type lies in a file: little-endian, row by row. */
export interface NpyArray {
  dtype: 'f32' | 'f16' | 'bf16' | 'i32';
  shape: readonly number[];
  data: Uint8Array;
}

/** numpy begins an array's data at a multiple of it. */
const dataAlignment = 64;

/** Writes an array as numpy does (format 1), for {@link openNpy}. */
export async function writeNpy(path: string, { dtype, shape, data }: NpyArray): Promise<void> {
  const description = definite(
    Object.keys(types).find((one) => types[one] === dtype),
    'a type that numpy has',
  );
  const header = `{'descr': '${description}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`;
  const headerBytes = dataAlignment * Math.ceil((header.length + 11) / dataAlignment) - 10;
  const start = Buffer.alloc(10 + headerBytes, ' ');
  start.write('\x93NUMPY\x01\x00', 'latin1');
  start.writeUInt16LE(headerBytes, 8);
  start.write(header, 10, 'latin1');
  start.write('\n', start.length - 1, 'latin1');
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(start);
    await file.writeFile(data);
  } finally {
    await file.close();
  }
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
