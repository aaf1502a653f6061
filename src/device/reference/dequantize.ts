import { bf16ToF32, f16ToF32 } from '../../base/half.ts';
import { type DType, dtypes } from '../../graph/dtype.ts';
import { DeviceError } from '../errors.ts';
import { readQ4K, readQ5K, readQ6K } from './dequantize-k.ts';

/** Reads one block at `offset` of `bytes` into `out` at `at`. */
export type BlockReader = (bytes: DataView, offset: number, out: Float32Array, at: number) => void;

/** Elements of a small block; two lie in each byte of 4-bit values, `half` apart. */
const small = 32;
const half = 16;

const f16 = (bytes: DataView, offset: number): number => f16ToF32(bytes.getUint16(offset, true));

/** d, then 32 signed bytes: d · q. */
function readQ80(bytes: DataView, offset: number, out: Float32Array, at: number): void {
  const scale = f16(bytes, offset);
  for (let i = 0; i < small; i++) out[at + i] = scale * bytes.getInt8(offset + 2 + i);
}

/** d, then 32 nibbles: d · (q − 8). Element i is in the low half of byte i, element i + 16 in the high half. */
function readQ40(bytes: DataView, offset: number, out: Float32Array, at: number): void {
  const scale = f16(bytes, offset);
  for (let i = 0; i < half; i++) {
    const pair = bytes.getUint8(offset + 2 + i);
    out[at + i] = scale * ((pair & 15) - 8);
    out[at + i + half] = scale * ((pair >> 4) - 8);
  }
}

/** d, m, then 32 nibbles: d · q + m. */
function readQ41(bytes: DataView, offset: number, out: Float32Array, at: number): void {
  const scale = f16(bytes, offset);
  const least = f16(bytes, offset + 2);
  for (let i = 0; i < half; i++) {
    const pair = bytes.getUint8(offset + 4 + i);
    out[at + i] = scale * (pair & 15) + least;
    out[at + i + half] = scale * (pair >> 4) + least;
  }
}

/** d, 32 fifth bits, then 32 nibbles: d · (q − 16). */
function readQ50(bytes: DataView, offset: number, out: Float32Array, at: number): void {
  const scale = f16(bytes, offset);
  const fifth = bytes.getUint32(offset + 2, true);
  for (let i = 0; i < half; i++) {
    const pair = bytes.getUint8(offset + 6 + i);
    out[at + i] = scale * (((pair & 15) | (((fifth >>> i) & 1) << 4)) - 16);
    out[at + i + half] = scale * (((pair >> 4) | (((fifth >>> (i + half)) & 1) << 4)) - 16);
  }
}

/** d, m, 32 fifth bits, then 32 nibbles: d · q + m. */
function readQ51(bytes: DataView, offset: number, out: Float32Array, at: number): void {
  const scale = f16(bytes, offset);
  const least = f16(bytes, offset + 2);
  const fifth = bytes.getUint32(offset + 4, true);
  for (let i = 0; i < half; i++) {
    const pair = bytes.getUint8(offset + 8 + i);
    out[at + i] = scale * ((pair & 15) | (((fifth >>> i) & 1) << 4)) + least;
    out[at + i + half] = scale * ((pair >> 4) | (((fifth >>> (i + half)) & 1) << 4)) + least;
  }
}

/** The types that the reference device reads; layouts as in ggml's `ggml-common.h`. */
const readers: Partial<Record<DType, BlockReader>> = {
  f32: (bytes, offset, out, at) => {
    out[at] = bytes.getFloat32(offset, true);
  },
  f16: (bytes, offset, out, at) => {
    out[at] = f16(bytes, offset);
  },
  bf16: (bytes, offset, out, at) => {
    out[at] = bf16ToF32(bytes.getUint16(offset, true));
  },
  q8_0: readQ80,
  q4_0: readQ40,
  q4_1: readQ41,
  q5_0: readQ50,
  q5_1: readQ51,
  q4_k: readQ4K,
  q5_k: readQ5K,
  q6_k: readQ6K,
};

/** Types that {@link dequantize} reads. */
export const dequantizableTypes = Object.keys(readers) as DType[];

/**
 * Stored elements as float32.
 * @throws DeviceError DEVICE_DTYPE_UNSUPPORTED for a type that the reference device does not read
 */
export function dequantize(dtype: DType, bytes: Uint8Array): Float32Array {
  const reader = readers[dtype];
  if (!reader) {
    const message = `the reference device does not read ${dtype}; it reads ${dequantizableTypes.join(', ')}`;
    throw new DeviceError('DEVICE_DTYPE_UNSUPPORTED', message);
  }
  const { blockElements, blockBytes } = dtypes[dtype];
  const blocks = bytes.byteLength / blockBytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Float32Array(blocks * blockElements);
  for (let block = 0; block < blocks; block++) reader(view, block * blockBytes, out, block * blockElements);
  return out;
}
