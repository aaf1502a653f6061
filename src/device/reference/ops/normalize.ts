/** Calls `row` with the start of each row of `width` elements. */
function forEachRow(x: Float32Array, width: number, row: (start: number) => void): void {
  for (let start = 0; start < x.length; start += width) row(start);
}

/** x / √(mean(x²) + ε) · weight, row by row. */
export function rmsNorm(x: Float32Array, weight: Float32Array, epsilon: number): Float32Array {
  const width = weight.length;
  const out = new Float32Array(x.length);
  forEachRow(x, width, (start) => {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += (x[start + i] as number) ** 2;
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) out[start + i] = (x[start + i] as number) * scale * (weight[i] as number);
  });
  return out;
}

/** (x − mean) / √(variance + ε) · weight + bias, row by row; the variance divides by the row's length. */
export function layerNorm(
  x: Float32Array,
  weight: Float32Array,
  bias: Float32Array | undefined,
  epsilon: number,
): Float32Array {
  const width = weight.length;
  const out = new Float32Array(x.length);
  forEachRow(x, width, (start) => {
    let mean = 0;
    for (let i = 0; i < width; i++) mean += (x[start + i] as number) / width;
    let variance = 0;
    for (let i = 0; i < width; i++) variance += ((x[start + i] as number) - mean) ** 2 / width;
    const scale = 1 / Math.sqrt(variance + epsilon);
    for (let i = 0; i < width; i++) {
      const shift = bias ? (bias[i] as number) : 0;
      out[start + i] = ((x[start + i] as number) - mean) * scale * (weight[i] as number) + shift;
    }
  });
  return out;
}

/** exp(x) / Σ exp(x) over each row of `width`; shifted by the row's largest, so that nothing overflows. */
export function softmax(x: Float32Array, width: number): Float32Array {
  const out = new Float32Array(x.length);
  forEachRow(x, width, (start) => {
    const weights = softmaxWeights(Array.from(x.subarray(start, start + width)));
    out.set(weights, start);
  });
  return out;
}

/** Softmax of one row, in float64. */
export function softmaxWeights(scores: readonly number[]): number[] {
  const largest = scores.reduce((most, score) => Math.max(most, score), -Infinity);
  const powers = scores.map((score) => Math.exp(score - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
