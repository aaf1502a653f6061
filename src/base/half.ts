/** Conversions between float32 and the 16-bit floats of checkpoints: IEEE half (f16) and bfloat16 (bf16). */

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

function bitsOf(value: number): number {
  scratchFloat[0] = value;
  return scratchBits[0] as number;
}

function floatOf(bits: number): number {
  scratchBits[0] = bits;
  return scratchFloat[0] as number;
}

/** The float32 value of an IEEE half. */
export function f16ToF32(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return floatOf(sign | 0x7f800000 | (mantissa << 13));
  if (exponent !== 0) return floatOf(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const subnormal = mantissa * 2 ** -24;
  return sign ? -subnormal : subnormal;
}

/** The nearest IEEE half of a float32, ties to even; overflow becomes infinity. */
export function f32ToF16(value: number): number {
  const bits = bitsOf(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal half: adding 0.5 aligns the float's mantissa with the half's unit, and rounds to even for us.
    return sign | (bitsOf(floatOf(magnitude) + 0.5) - 0x3f000000);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

/** The float32 value of a bfloat16. */
export function bf16ToF32(value: number): number {
  return floatOf(value << 16);
}

/** The nearest bfloat16 of a float32, ties to even; NaN stays NaN. */
export function f32ToBf16(value: number): number {
  const bits = bitsOf(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
