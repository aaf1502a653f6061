import type { SeededRandom } from '../base/random.ts';

/** A uniform value in (0, 1]: safe to take the logarithm of. */
function positive(random: SeededRandom): number {
  return 1 - random.next();
}

/** A draw of the exponential distribution with the given mean, by inversion. */
export function exponential(random: SeededRandom, mean: number): number {
  return -Math.log(positive(random)) * mean;
}

/** A draw of the normal distribution (Box–Muller; the second value of the pair is thrown away, so that a draw is a function of two uniforms). */
export function normal(random: SeededRandom, mean: number, standardDeviation: number): number {
  const radius = Math.sqrt(-2 * Math.log(positive(random)));
  return mean + standardDeviation * radius * Math.cos(2 * Math.PI * random.next());
}

/**
 * A draw of the gamma distribution with the given shape and scale (mean = shape × scale): Marsaglia and Tsang's method of 2000; below
 * shape 1 a draw of shape + 1 times a uniform's power.
 */
export function gamma(random: SeededRandom, shape: number, scale: number): number {
  if (shape < 1) return gamma(random, shape + 1, scale) * positive(random) ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = normal(random, 0, 1);
    const v = (1 + c * x) ** 3;
    if (v <= 0) continue;
    if (Math.log(positive(random)) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v * scale;
  }
}

/** A whole number of at least `least`, drawn from the normal distribution and rounded. */
export function normalInteger(
  random: SeededRandom,
  mean: number,
  standardDeviation: number,
  least: number,
): number {
  return Math.max(least, Math.round(normal(random, mean, standardDeviation)));
}
