import { expNegativeSteps, stepMax, stepsPerUnit } from './exponential.ts';
import { addCounts, addWeights, gatherPositions } from './histogram.ts';
import { type LogitRow, tokenAt } from './logit-row.ts';

/** The parameters that cut a row's tail; see `SamplingParameters`. */
export interface Cuts {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
}

/**
 * Draws from a row's softmax, cut by min-p, top-k and top-p in vLLM's order. Tokens less likely than e^−32 (1e-14) times the likeliest
 * one are never drawn.
 *
 * No sort over the vocabulary and no branch that the processor cannot predict: one pass makes a histogram by distance below the
 * maximum (in steps of 1/64), which shows what few tokens a cut or a draw can fall among; only those are gathered. Scratch
 * memory is reused from row to row; nothing is allocated.
 */
export class Candidates {
  readonly #positions: Int32Array;
  readonly #weights: Float64Array;
  readonly #buckets: Uint16Array;
  /** Members of the bucket that a cut falls into. */
  readonly #boundary: Int32Array;
  readonly #bucketCounts = new Int32Array(stepMax + 1);
  readonly #bucketWeights = new Float64Array(stepMax + 1);
  #row: LogitRow = { logits: new Float32Array(0), start: 0, width: 0, ids: undefined };
  #max = 0;
  /** Steps of distance for one unit of logit. */
  #scale = 0;
  #count = 0;

  constructor(vocabularySize: number) {
    this.#positions = new Int32Array(vocabularySize);
    this.#weights = new Float64Array(vocabularySize);
    this.#buckets = new Uint16Array(vocabularySize);
    this.#boundary = new Int32Array(vocabularySize);
  }

  /**
   * The token at `uniform` (in [0, 1)) of the way through what the cuts leave.
   * @param maxPosition where the row's largest logit lies; it is finite
   */
  draw(row: LogitRow, maxPosition: number, cuts: Cuts, uniform: number): number {
    this.#row = row;
    this.#max = row.logits[maxPosition] as number;
    this.#scale = stepsPerUnit / cuts.temperature;
    // A row shorter than the histogram (a device's candidates) is gathered whole.
    const isShort = row.width <= stepMax;
    if (cuts.minP === 0 && cuts.topK === 0 && !isShort) return this.#drawByMass(cuts.topP, uniform);
    if (cuts.minP > 0) this.#gather(0, this.#minPSteps(cuts.minP));
    else if (isShort) this.#gather(0, stepMax);
    else this.#gather(0, this.#countBucket(cuts.topK) + 1);
    if (cuts.topK > 0) this.#keepTop(cuts.topK);
    if (cuts.topP < 1) this.#keepMass(cuts.topP * this.#gatheredWeight());
    return this.#pick(uniform * this.#gatheredWeight());
  }

  /** Top-p alone, or no cut at all: the histogram of the whole row says where to look. */
  #drawByMass(topP: number, uniform: number): number {
    const total = this.#weighAll();
    if (topP < 1) {
      this.#gather(0, this.#massBucket(topP * total).bucket + 1);
      this.#keepMass(topP * total);
      return this.#pick(uniform * this.#gatheredWeight());
    }
    const target = uniform * total;
    const { bucket, before } = this.#massBucket(target, true);
    this.#gather(bucket, bucket + 1);
    return this.#pick(target - before);
  }

  /** Distance in steps up to which tokens are at least `minP` times as likely as the likeliest; a hair more, for rounding. */
  #minPSteps(minP: number): number {
    return Math.min(stepMax, -Math.log(minP) * stepsPerUnit + 1e-9);
  }

  /** The histogram of weights over the whole row; returns their sum. */
  #weighAll(): number {
    const weights = this.#bucketWeights.fill(0);
    addWeights(this.#row, this.#max, this.#scale, weights);
    let total = 0;
    for (let bucket = 0; bucket < stepMax; bucket++) total += weights[bucket] as number;
    return total;
  }

  /** The bucket that holds the `k`-th likeliest token of the row; the last one if there are fewer. */
  #countBucket(k: number): number {
    const counts = this.#bucketCounts.fill(0);
    addCounts(this.#row, this.#max, this.#scale, counts);
    let bucket = 0;
    for (let sum = counts[0] as number; sum < k && bucket < stepMax - 1; ) sum += counts[++bucket] as number;
    return bucket;
  }

  /** The bucket in which the running sum of weights reaches (or passes) `target`, never an empty one, and the sum before it. */
  #massBucket(target: number, passes = false): { bucket: number; before: number } {
    let bucket = 0;
    let before = 0;
    let sum = this.#bucketWeights[0] as number;
    for (let next = 1; next < stepMax && (sum < target || (passes && sum === target)); next++) {
      const weight = this.#bucketWeights[next] as number;
      if (weight === 0) continue;
      bucket = next;
      before = sum;
      sum += weight;
    }
    return { bucket, before };
  }

  /** Takes the tokens whose distance in steps is in [from, to), in order of position. */
  #gather(from: number, to: number): void {
    const count = gatherPositions(this.#row, this.#max, this.#scale, from, to, this.#positions);
    for (let i = 0; i < count; i++) {
      const distance = (this.#max - this.#logitOf(i)) * this.#scale;
      this.#weights[i] = expNegativeSteps(distance);
      this.#buckets[i] = distance | 0;
    }
    this.#count = count;
  }

  /** Keeps the `k` likeliest gathered tokens, and those equal to the last of them. */
  #keepTop(k: number): void {
    if (k >= this.#count) return;
    this.#fillBuckets();
    let bucket = 0;
    let before = 0;
    while (before + (this.#bucketCounts[bucket] as number) < k)
      before += this.#bucketCounts[bucket++] as number;
    const last = this.#sortedMembers(bucket)[k - before - 1] as number;
    this.#compact(bucket, this.#logitOf(last), Number.POSITIVE_INFINITY);
  }

  /** Keeps the fewest likeliest gathered tokens whose weights reach `target`. Of equal ones the lower position counts as likelier. */
  #keepMass(target: number): void {
    if (this.#count <= 1) return;
    this.#fillBuckets();
    const found = this.#massBucket(target);
    let before = found.before;
    const members = this.#sortedMembers(found.bucket);
    let last = 0;
    for (; last < members.length - 1; last++) {
      before += this.#weights[members[last] as number] as number;
      if (before >= target) break;
    }
    const lastMember = members[last] as number;
    this.#compact(found.bucket, this.#logitOf(lastMember), this.#positions[lastMember] as number);
  }

  #gatheredWeight(): number {
    let total = 0;
    for (let i = 0; i < this.#count; i++) total += this.#weights[i] as number;
    return total;
  }

  /** The gathered token in which the running sum of weights passes `target`. */
  #pick(target: number): number {
    let left = target;
    let i = 0;
    for (; i < this.#count - 1; i++) {
      left -= this.#weights[i] as number;
      if (left < 0) break;
    }
    return tokenAt(this.#row, this.#positions[i] as number);
  }

  /** Counts and weighs the gathered tokens of each bucket. */
  #fillBuckets(): void {
    this.#bucketCounts.fill(0);
    this.#bucketWeights.fill(0);
    for (let i = 0; i < this.#count; i++) {
      const bucket = this.#buckets[i] as number;
      this.#bucketCounts[bucket] = (this.#bucketCounts[bucket] as number) + 1;
      this.#bucketWeights[bucket] = (this.#bucketWeights[bucket] as number) + (this.#weights[i] as number);
    }
  }

  /** Indices of a bucket's gathered tokens, likeliest first, then by position. */
  #sortedMembers(bucket: number): Int32Array {
    let size = 0;
    for (let i = 0; i < this.#count; i++) if (this.#buckets[i] === bucket) this.#boundary[size++] = i;
    return this.#boundary.subarray(0, size).sort((a, b) => this.#logitOf(b) - this.#logitOf(a) || a - b);
  }

  /** Drops the buckets behind `bucket`, and in it what is below `lowestLogit` or equal to it and behind `lastPosition`. */
  #compact(bucket: number, lowestLogit: number, lastPosition: number): void {
    let kept = 0;
    for (let i = 0; i < this.#count; i++) {
      const own = this.#buckets[i] as number;
      if (own > bucket) continue;
      const position = this.#positions[i] as number;
      if (own === bucket) {
        const logit = this.#row.logits[position] as number;
        if (logit < lowestLogit || (logit === lowestLogit && position > lastPosition)) continue;
      }
      this.#positions[kept] = position;
      this.#weights[kept] = this.#weights[i] as number;
      this.#buckets[kept] = own;
      kept++;
    }
    this.#count = kept;
  }

  #logitOf(index: number): number {
    return this.#row.logits[this.#positions[index] as number] as number;
  }
}
