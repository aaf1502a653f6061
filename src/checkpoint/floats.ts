import { bf16ToF32, f16ToF32 } from '../base/half.ts';
import type { DType } from '../graph/dtype.ts';
import { CheckpointError } from './errors.ts';
import { readTensor, type StoredTensor } from './tensor-file.ts';

/**
 * Decodes unquantized floats, as stored, to float32.
 * @returns undefined for block types and integers: devices and the builder decode those
 */
export function decodeFloats(dtype: DType, bytes: Uint8Array): Float32Array | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decode = decoders[dtype];
  if (!decode) return undefined;
  const floats = new Float32Array(bytes.byteLength / decode.bytes);
  for (let i = 0; i < floats.length; i++) floats[i] = decode.at(view, i * decode.bytes);
  return floats;
}

const decoders: Partial<Record<DType, { bytes: number; at: (view: DataView, offset: number) => number }>> = {
  f64: { bytes: 8, at: (view, offset) => view.getFloat64(offset, true) },
  f32: { bytes: 4, at: (view, offset) => view.getFloat32(offset, true) },
  f16: { bytes: 2, at: (view, offset) => f16ToF32(view.getUint16(offset, true)) },
  bf16: { bytes: 2, at: (view, offset) => bf16ToF32(view.getUint16(offset, true)) },
};

/**
 * Reads rows of an f64, f32, f16 or bf16 tensor as float32.
 * @throws CheckpointError for other types
 */
export function readFloats(tensor: StoredTensor, rowStart = 0, rowCount?: number): Float32Array {
  const floats = decodeFloats(tensor.dtype, readTensor(tensor, rowStart, rowCount));
  if (floats) return floats;
  const problem = `${tensor.path}: tensor '${tensor.name}' is stored as ${tensor.dtype}, where plain floats are needed`;
  throw new CheckpointError('TENSOR_TYPE_UNSUPPORTED', `${problem}; use an f32, f16 or bf16 version`);
}
