/** Sums in float64, so that the order of a long vector's elements does not matter. */
function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let index = 0; index < a.length; index++) sum += (a[index] as number) * (b[index] as number);
  return sum;
}

/**
 * An embedding as clients get it.
 * @param pooled as the engine made it
 * @param dimensions the first so many of its elements, as models trained for that (Matryoshka) mean them; all if undefined
 * @param normalize to length 1; after the cut, so that what is cut has length 1, too
 */
export function embeddingOf(
  pooled: Float32Array,
  dimensions: number | undefined,
  normalize: boolean,
): Float32Array {
  const own = pooled.slice(0, dimensions ?? pooled.length);
  if (!normalize) return own;
  const length = Math.sqrt(dot(own, own));
  // The one vector without a direction stays what it is.
  return length === 0 ? own : own.map((value) => value / length);
}

/** The cosine of two vectors' angle, from −1 to 1; 0 where one has no direction. */
export function cosine(a: Float32Array, b: Float32Array): number {
  const lengths = Math.sqrt(dot(a, a) * dot(b, b));
  return lengths === 0 ? 0 : Math.max(-1, Math.min(1, dot(a, b) / lengths));
}
