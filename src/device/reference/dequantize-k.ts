import { f16ToF32 } from '../../base/half.ts';

/** Superblocks of 256 elements ("K-quants"): groups with small integer scales under one f16 scale. */
const groups = 8;
const groupElements = 32;
/** Bytes of the eight packed 6-bit scales and minima. */
const packedScaleBytes = 12;

/**
 * The 6-bit scale and minimum of group `group`. Groups 0..3 have theirs in the low six bits of bytes 0..3 and 4..7; groups 4..7 have the
 * low four bits in bytes 8..11 and the high two in the top of bytes 0..3 and 4..7.
 */
function scaleAndMinimum(bytes: DataView, offset: number, group: number): [number, number] {
  const at = (index: number) => bytes.getUint8(offset + index);
  if (group < 4) return [at(group) & 63, at(group + 4) & 63];
  const low = at(group + 4);
  return [(low & 15) | ((at(group - 4) >> 6) << 4), (low >> 4) | ((at(group) >> 6) << 4)];
}

/** d, dmin, packed scales, then nibbles: d · scale · q − dmin · minimum. Groups 2n and 2n + 1 share 32 bytes. */
export function readQ4K(bytes: DataView, offset: number, out: Float32Array, at: number): void {
  readWithMinima(bytes, offset, out, at, undefined, offset + 4 + packedScaleBytes);
}

/** As q4_k with 32 bytes of fifth bits before the nibbles: bit g of byte i belongs to element i of group g. */
export function readQ5K(bytes: DataView, offset: number, out: Float32Array, at: number): void {
  const fifth = offset + 4 + packedScaleBytes;
  readWithMinima(bytes, offset, out, at, fifth, fifth + groupElements);
}

function readWithMinima(
  bytes: DataView,
  offset: number,
  out: Float32Array,
  at: number,
  fifthBits: number | undefined,
  nibbles: number,
): void {
  const d = f16ToF32(bytes.getUint16(offset, true));
  const dmin = f16ToF32(bytes.getUint16(offset + 2, true));
  for (let group = 0; group < groups; group++) {
    const [scale, minimum] = scaleAndMinimum(bytes, offset + 4, group);
    // ggml rounds both products to float32 before it uses them.
    const step = Math.fround(d * scale);
    const least = Math.fround(dmin * minimum);
    const shift = (group % 2) * 4;
    const start = nibbles + Math.floor(group / 2) * groupElements;
    for (let i = 0; i < groupElements; i++) {
      const low = (bytes.getUint8(start + i) >> shift) & 15;
      const high = fifthBits === undefined ? 0 : ((bytes.getUint8(fifthBits + i) >> group) & 1) << 4;
      out[at + group * groupElements + i] = Math.fround(step * (low | high)) - least;
    }
  }
}

/**
 * 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales (one per 16 elements), d: d · scale · (q − 32).
 * Each half of 128 elements has 64 nibble bytes and 32 pair bytes; its quarters of 32 elements take the low nibbles of the first and second
 * 32 bytes, then their high nibbles.
 */
export function readQ6K(bytes: DataView, offset: number, out: Float32Array, at: number): void {
  const d = f16ToF32(bytes.getUint16(offset + 208, true));
  for (let element = 0; element < 256; element++) {
    const part = element >> 7;
    const quarter = (element >> 5) & 3;
    const i = element & 31;
    const nibbles = bytes.getUint8(offset + part * 64 + (quarter & 1) * 32 + i);
    const pairs = bytes.getUint8(offset + 128 + part * 32 + i);
    const low = (nibbles >> ((quarter >> 1) * 4)) & 15;
    const high = (pairs >> (quarter * 2)) & 3;
    const scale = bytes.getInt8(offset + 192 + (element >> 4));
    out[at + element] = d * scale * ((low | (high << 4)) - 32);
  }
}
