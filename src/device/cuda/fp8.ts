/**
 * 8-bit matrices and products: e4m3 weights with a scale a row (output channel), and rows of activations that get theirs as they come
 * (`kernels/quantize.cu`). Products of few rows take the activations as float16 instead (`kernels/gemv.cu`).
 */

/** Hopper is the first whose cuBLASLt takes a scale a row of both operands. */
export const fp8CapabilityMin = 90;

/** cuBLASLt's 8-bit products take multiples of so many elements in both dimensions of the weight. */
const fp8Multiple = 16;
const vectorElements = 8;
const threadsMax = 1024;
/** From so many rows on, threads take more of a row: the GPU is full anyway. */
const rowsMany = 1024;
const vectorsFew = 2;
const vectorsMany = 4;

/** MODE of `quantize.cu`. */
export const quantizeModes = { plain: 0, rmsNorm: 1, swiglu: 2 } as const;

/** Elements of the longest row that `quantize.cu` holds in registers. */
export const quantizeWidthMax = threadsMax * vectorsMany * vectorElements;

/** Whether a weight of this shape can be e4m3. */
export function fitsFp8([rows = 0, inputs = 0, ...more]: readonly number[]): boolean {
  const isWhole = rows % fp8Multiple === 0 && inputs % fp8Multiple === 0;
  return more.length === 0 && inputs > 0 && isWhole && inputs <= quantizeWidthMax;
}

/** How `quantize.cu` is compiled and launched for rows of `width`. */
export function quantizeVariant(rows: number, width: number): { vectors: number; threads: number } {
  const all = width / vectorElements;
  const isLong = all > threadsMax * vectorsFew;
  const vectors = isLong || rows >= rowsMany ? vectorsMany : vectorsFew;
  return { vectors, threads: Math.ceil(all / vectors / 32) * 32 };
}
