import type { OpAttributes } from '../../../graph/ops.ts';

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
export const silu = (x: number): number => x * sigmoid(x);
export const relu = (x: number): number => Math.max(0, x);

const gelus: Record<OpAttributes['gelu']['approximation'], (x: number) => number> = {
  erf: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  quick: (x) => x * sigmoid(1.702 * x),
};

/** GELU in the given form. */
export function geluOf(approximation: OpAttributes['gelu']['approximation']): (x: number) => number {
  return gelus[approximation];
}

/** Beyond this, erf is 1 in float64. */
const erfSaturated = 6;

/** The error function: 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!!, whose terms all have one sign. */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  if (Math.abs(x) >= erfSaturated) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > Math.abs(sum) * Number.EPSILON; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** `f` of each element. */
export function map(x: Float32Array, f: (value: number) => number): Float32Array {
  return x.map(f);
}

/** `f(a, b)` element by element; a shorter b repeats over a's leading dimensions. */
export function zip(a: Float32Array, b: Float32Array, f: (a: number, b: number) => number): Float32Array {
  return a.map((value, index) => f(value, b[index % b.length] as number));
}
