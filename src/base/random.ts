/**
 * Counter-based random numbers: a value depends only on its key, never on how many were drawn before. The sampler keys them by
 * (seed, sequence, position), so that batching cannot change what a request samples.
 */

/** Mixes 32-bit words into one (murmur3's finalizer over a running state). */
export function hash32(...words: number[]): number {
  let state = 0x9e3779b9;
  for (const word of words) {
    state = Math.imul(state ^ (word | 0), 0x85ebca6b);
    state ^= state >>> 13;
    state = Math.imul(state, 0xc2b2ae35);
    state ^= state >>> 16;
  }
  return state >>> 0;
}

/**
 * A float64 in [0, 1) keyed by (seed, sequence, position).
 * @param seed any safe integer; both halves of its 53 bits count
 */
export function uniform(seed: number, sequence: number, position: number): number {
  const high = Math.floor(seed / 0x1_0000_0000);
  const first = hash32(seed, high, sequence, position, 1);
  const second = hash32(seed, high, sequence, position, 2);
  return ((first >>> 5) * 0x400_0000 + (second >>> 6)) / 0x20_0000_0000_0000;
}

/** A sequential generator over {@link hash32} for tests, simulation and tools. */
export class SeededRandom {
  #counter = 0;
  readonly seed: number;

  constructor(seed: number) {
    this.seed = seed;
  }

  /** A float64 in [0, 1). */
  next(): number {
    return uniform(this.seed, 0, this.#counter++);
  }

  /** An integer in [0, below). */
  integer(below: number): number {
    return Math.floor(this.next() * below);
  }
}
