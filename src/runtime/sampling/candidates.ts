import { distanceMax, expNegative, stepsPerUnit } from './exponential.ts';
import { type LogitRow, tokenAt } from './logit-row.ts';

/**
 * Tokens less likely than e^−20 (2e-9) times the likeliest one, after temperature, are never drawn. Even if all of a 150,000-word
 * vocabulary lay there, they would hold 0.03 % of the probability.
 */
export const windowDistance = 20;

const bucketCount = distanceMax * stepsPerUnit;

/**
 * The tokens of one row that may be drawn, with weights relative to the likeliest. Selection by top-k and top-p works on buckets of
 * distance below the maximum, so only the one bucket that the cut falls into is ever sorted. Reused from row to row: nothing is allocated.
 */
export class Candidates {
  readonly #positions: Int32Array;
  readonly #weights: Float64Array;
  readonly #buckets: Uint16Array;
  /** Scratch: members of the bucket that a cut falls into. */
  readonly #boundary: Int32Array;
  readonly #bucketCounts = new Int32Array(bucketCount);
  readonly #bucketWeights = new Float64Array(bucketCount);
  #count = 0;

  constructor(vocabularySize: number) {
    this.#positions = new Int32Array(vocabularySize);
    this.#weights = new Float64Array(vocabularySize);
    this.#buckets = new Uint16Array(vocabularySize);
    this.#boundary = new Int32Array(vocabularySize);
  }

  get count(): number {
    return this.#count;
  }

  /** Takes every token within the window below the largest logit, in order of position; `minP` narrows the window. */
  gather(row: LogitRow, maxPosition: number, temperature: number, minP: number): void {
    const { logits, start } = row;
    const end = start + row.width;
    const max = logits[maxPosition] as number;
    const window = minP > 0 ? Math.min(windowDistance, -Math.log(minP)) : windowDistance;
    const inverse = 1 / temperature;
    const lowest = max - window * temperature;
    let count = 0;
    for (let position = start; position < end; position++) {
      const logit = logits[position] as number;
      // Written so that NaN fails it; float32 rounding may put a distance a hair over the window, never near distanceMax.
      if (!(logit >= lowest)) continue;
      const distance = (max - logit) * inverse;
      this.#positions[count] = position;
      this.#weights[count] = expNegative(distance);
      this.#buckets[count] = (distance * stepsPerUnit) | 0;
      count++;
    }
    this.#count = count;
  }

  /** Keeps the `k` likeliest, and those equal to the last of them. */
  keepTop(row: LogitRow, k: number): void {
    if (k >= this.#count) return;
    this.#fillBuckets();
    let bucket = 0;
    let before = 0;
    while (before + (this.#bucketCounts[bucket] as number) < k)
      before += this.#bucketCounts[bucket++] as number;
    const members = this.#sortedMembers(row, bucket);
    this.#compact(row, bucket, this.#logitOf(row, members[k - before - 1] as number), -1);
  }

  /** Keeps the fewest likeliest tokens whose probabilities sum up to `p`. Of equal ones the lower position counts as likelier. */
  keepMass(row: LogitRow, p: number): void {
    if (p >= 1 || this.#count <= 1) return;
    const target = this.#fillBuckets() * p;
    let bucket = 0;
    let before = 0;
    while (bucket < bucketCount - 1 && before + (this.#bucketWeights[bucket] as number) < target) {
      before += this.#bucketWeights[bucket++] as number;
    }
    // Rounding in the sums may walk past the last bucket in use; then nothing is to be cut.
    if (this.#bucketCounts[bucket] === 0) return;
    const members = this.#sortedMembers(row, bucket);
    let last = 0;
    for (; last < members.length - 1; last++) {
      before += this.#weights[members[last] as number] as number;
      if (before >= target) break;
    }
    const lastMember = members[last] as number;
    this.#compact(row, bucket, this.#logitOf(row, lastMember), this.#positions[lastMember] as number);
  }

  /** The token at `uniform` of the way through the weights. */
  draw(row: LogitRow, uniform: number): number {
    let total = 0;
    for (let i = 0; i < this.#count; i++) total += this.#weights[i] as number;
    let left = uniform * total;
    for (let i = 0; i < this.#count - 1; i++) {
      left -= this.#weights[i] as number;
      if (left < 0) return tokenAt(row, this.#positions[i] as number);
    }
    return tokenAt(row, this.#positions[this.#count - 1] as number);
  }

  /** Counts and weighs the candidates of each bucket; returns the whole weight. */
  #fillBuckets(): number {
    this.#bucketCounts.fill(0);
    this.#bucketWeights.fill(0);
    let total = 0;
    for (let i = 0; i < this.#count; i++) {
      const bucket = this.#buckets[i] as number;
      const weight = this.#weights[i] as number;
      this.#bucketCounts[bucket] = (this.#bucketCounts[bucket] as number) + 1;
      this.#bucketWeights[bucket] = (this.#bucketWeights[bucket] as number) + weight;
      total += weight;
    }
    return total;
  }

  /** Indices of a bucket's candidates, likeliest first, then by position. */
  #sortedMembers(row: LogitRow, bucket: number): Int32Array {
    let size = 0;
    for (let i = 0; i < this.#count; i++) if (this.#buckets[i] === bucket) this.#boundary[size++] = i;
    return this.#boundary
      .subarray(0, size)
      .sort((a, b) => this.#logitOf(row, b) - this.#logitOf(row, a) || a - b);
  }

  /** Drops what is less likely than `lowestLogit` in `bucket` and all further ones; of equal ones those behind `lastPosition` (−1: none). */
  #compact(row: LogitRow, bucket: number, lowestLogit: number, lastPosition: number): void {
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const own = this.#buckets[i] as number;
      if (own > bucket) continue;
      const position = this.#positions[i] as number;
      if (own === bucket) {
        const logit = row.logits[position] as number;
        if (logit < lowestLogit || (logit === lowestLogit && lastPosition >= 0 && position > lastPosition)) {
          continue;
        }
      }
      this.#positions[kept] = position;
      this.#weights[kept] = this.#weights[i] as number;
      this.#buckets[kept] = own;
      kept++;
    }
    this.#count = kept;
  }

  #logitOf(row: LogitRow, index: number): number {
    return row.logits[this.#positions[index] as number] as number;
  }
}
