/**
 * The 8-bit float e4m3 as GPUs have it ('fn'): sign, 4 bits of exponent with bias 7, 3 of mantissa, no infinity, NaN is 0x7f. Open Compute
 * Project's "OFP8" specification.
 */

/** The largest number. */
export const e4m3Max = 448;

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);
const smallestNormal = 2 ** -6;
const nanCode = 0x7f;
const largestCode = 0x7e;

/** The nearest e4m3 (ties to even); beyond {@link e4m3Max} the largest number, as GPUs convert with saturation. */
export function f32ToE4m3(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0] as number;
  const sign = (bits >>> 24) & 0x80;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return nanCode;
  if (magnitude >= e4m3Max) return sign | largestCode;
  // Below the normal numbers steps are 2^-9: adding 2^23 rounds to whole ones.
  if (magnitude < smallestNormal) return sign | (Math.fround(magnitude * 512 + 8388608) - 8388608);
  // Of float32's 23 bits of mantissa 3 stay.
  const low = bits & 0x7fffffff;
  const rounded = (low + 0x7ffff + ((low >>> 20) & 1)) >>> 20;
  return sign | (rounded - ((127 - 7) << 3));
}

/** Every e4m3's value, by its code. */
export const e4m3Values: Float32Array = Float32Array.from({ length: 256 }, (_, code) => {
  const exponent = (code >> 3) & 15;
  const mantissa = code & 7;
  if ((code & 0x7f) === nanCode) return Number.NaN;
  const magnitude = exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10);
  return code & 0x80 ? -magnitude : magnitude;
});
