import type { Distribution } from './distribution.ts';
import { expNegativeSteps, leastWeight, stepMax, stepsPerUnit } from './exponential.ts';
import { addCounts, addWeights, gatherPositions, weighBlocks } from './histogram.ts';
import { type LogitRow, tokenAt } from './logit-row.ts';
import {
  gatherAbove,
  likeliestPosition,
  maskProbabilities,
  type ProbabilityRow,
  sumBlocksAbove,
  sumProbabilities,
  walkProbabilities,
} from './probability-row.ts';

/** Logits that are weighed together to find where a draw without cuts falls. */
const blockSize = 256;

/** The threshold for likely tokens starts at the likeliest one's probability over this, and falls by it until enough are above. */
const thresholdFactor = 8;

/** How far a device's float32 probabilities of a row may be from summing to one. */
const sumTolerance = 1e-3;

/** Less than so much of a row's mass says too little in float32: sums of whole blocks may have been rounded away. */
const maskedMassMin = 1e-12;

/** Room for rounding when probabilities say what to gather and logits what to keep. */
const gatherSlack = 1e-4;

/** The parameters that cut a row's tail; see `SamplingParameters`. */
export interface Cuts {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
}

/**
 * Draws from a row's softmax, cut by min-p, top-k and top-p in vLLM's order. Tokens less likely than e^−32 (1e-14) times the likeliest
 * one are never drawn. Whatever the cuts, the drawn tokens' shares of [0, 1) lie in order of position.
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
  readonly #blockWeights: Float64Array;
  readonly #bucketCounts = new Int32Array(stepMax + 1);
  readonly #bucketWeights = new Float64Array(stepMax + 1);
  #row: LogitRow = { logits: new Float32Array(0), start: 0, width: 0 };
  #max = 0;
  /** Steps of distance for one unit of logit. */
  #scale = 0;
  #count = 0;

  constructor(vocabularySize: number) {
    this.#positions = new Int32Array(vocabularySize);
    this.#weights = new Float64Array(vocabularySize);
    this.#buckets = new Uint16Array(vocabularySize);
    this.#boundary = new Int32Array(vocabularySize);
    this.#blockWeights = new Float64Array(Math.ceil(vocabularySize / blockSize));
  }

  /**
   * The token at `uniform` (in [0, 1)) of the way through what the cuts leave.
   * @param maxPosition where the row's largest logit lies; it is finite
   */
  draw(row: LogitRow, maxPosition: number, cuts: Cuts, uniform: number): number {
    this.#row = row;
    this.#max = row.logits[maxPosition] as number;
    this.#scale = stepsPerUnit / cuts.temperature;
    // A row shorter than the histogram is gathered whole.
    const isShort = row.width <= stepMax;
    if (cuts.minP === 0 && cuts.topK === 0 && !isShort) return this.#drawByMass(cuts.topP, uniform);
    if (cuts.minP > 0) this.#gather(0, this.#minPSteps(cuts.minP));
    else if (isShort) this.#gather(0, stepMax);
    else this.#gather(0, this.#countBucket(cuts.topK) + 1);
    if (cuts.topK > 0) this.#keepTop(cuts.topK);
    if (cuts.topP < 1) this.#keepMass(cuts.topP * this.#gatheredWeight());
    return this.#pick(uniform * this.#gatheredWeight());
  }

  /** What {@link draw} draws from: tokens in ascending order, and their probabilities. */
  distribution(row: LogitRow, maxPosition: number, cuts: Cuts): Distribution {
    this.#row = row;
    this.#max = row.logits[maxPosition] as number;
    this.#scale = stepsPerUnit / cuts.temperature;
    this.#gather(0, cuts.minP > 0 ? this.#minPSteps(cuts.minP) : stepMax);
    if (cuts.topK > 0) this.#keepTop(cuts.topK);
    if (cuts.topP < 1) this.#keepMass(cuts.topP * this.#gatheredWeight());
    const total = this.#gatheredWeight();
    const count = this.#count;
    return {
      tokens: Int32Array.from(this.#positions.subarray(0, count), (position) => tokenAt(row, position)),
      probabilities: Float64Array.from(this.#weights.subarray(0, count), (weight) => weight / total),
    };
  }

  /**
   * As {@link draw}, to rounding, from the device's probabilities: they say which few tokens can be drawn, and only those are weighed.
   * @param mask the tokens that may be drawn; the others' probabilities become 0
   * @returns −1 if the probabilities are none, since the logits hold NaN or infinity, or say too little of what may be drawn
   */
  drawLikely(
    row: LogitRow,
    probabilities: ProbabilityRow,
    cuts: Cuts,
    uniform: number,
    mask?: Uint32Array,
  ): number {
    let total = sumProbabilities(probabilities);
    if (!(Math.abs(total - 1) < sumTolerance)) return -1;
    if (mask) {
      maskProbabilities(probabilities, mask);
      total = sumProbabilities(probabilities);
      if (total < maskedMassMin) return -1;
    }
    const maxPosition = likeliestPosition(probabilities);
    const likeliest = probabilities.values[maxPosition] as number;
    const { minP, topK, topP } = cuts;
    if (minP === 0 && topK === 0 && topP === 1) {
      const lowest = likeliest * leastWeight;
      const position = walkProbabilities(probabilities, uniform * total, lowest);
      return tokenAt(row, position < 0 ? maxPosition : position);
    }
    this.#row = row;
    this.#max = row.logits[maxPosition] as number;
    this.#scale = stepsPerUnit / cuts.temperature;
    let left = 0;
    if (minP > 0) {
      const threshold = Math.max(minP * (1 - gatherSlack), leastWeight) * likeliest;
      this.#weigh(gatherAbove(probabilities, threshold, this.#positions), this.#minPSteps(minP));
    } else if (topK > 0) this.#gatherCount(probabilities, likeliest, topK);
    else left = this.#gatherMass(probabilities, likeliest, topP * total, total);
    if (topK > 0) this.#keepTop(topK);
    if (topP < 1) this.#keepMass(topP * (this.#gatheredWeight() + left));
    return this.#pick(uniform * this.#gatheredWeight());
  }

  /** Gathers the `k` likeliest tokens at least, or all. */
  #gatherCount(probabilities: ProbabilityRow, likeliest: number, k: number): void {
    const least = likeliest * leastWeight;
    let threshold = likeliest;
    let count = 0;
    do {
      threshold = Math.max(threshold / thresholdFactor, least);
      count = gatherAbove(probabilities, threshold * (1 - gatherSlack), this.#positions);
    } while (count < k && threshold > least);
    this.#weigh(count, stepMax);
  }

  /**
   * Gathers likely tokens that together have at least `target`, or all.
   * @param total sum of the row's probabilities
   * @returns the weight of the others
   */
  #gatherMass(probabilities: ProbabilityRow, likeliest: number, target: number, total: number): number {
    const { values } = probabilities;
    const least = likeliest * leastWeight;
    const wanted = target * (1 + gatherSlack);
    let threshold = likeliest;
    let mass = 0;
    let count = 0;
    do {
      threshold = Math.max(threshold / thresholdFactor, least);
      if (threshold > least && sumBlocksAbove(probabilities, threshold) < wanted) continue;
      count = gatherAbove(probabilities, threshold, this.#positions);
      mass = 0;
      for (let i = 0; i < count; i++) mass += values[this.#positions[i] as number] as number;
    } while (mass < wanted && threshold > least);
    this.#weigh(count, stepMax);
    return Math.max(0, total - mass) / likeliest;
  }

  /** Top-p alone, or no cut at all: the weights of the whole row say where to look. */
  #drawByMass(topP: number, uniform: number): number {
    if (topP === 1) return this.#drawUncut(uniform);
    const target = topP * this.#weighAll();
    this.#gather(0, this.#massBucket(target).bucket + 1);
    this.#keepMass(target);
    return this.#pick(uniform * this.#gatheredWeight());
  }

  /** No cut: looks only into the block that the draw falls into. */
  #drawUncut(uniform: number): number {
    const row = this.#row;
    const sums = this.#blockWeights;
    let left = uniform * weighBlocks(row, this.#max, this.#scale, blockSize, sums);
    let last = 0;
    const blocks = Math.ceil(row.width / blockSize);
    for (let block = 0; block < blocks; block++) {
      const sum = sums[block] as number;
      if (sum === 0) continue;
      last = block;
      if (left < sum) break;
      left -= sum;
    }
    const start = last * blockSize;
    const width = Math.min(blockSize, row.width - start);
    this.#row = { ...row, start: row.start + start, width };
    this.#gather(0, stepMax);
    this.#row = row;
    return this.#pick(left);
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

  /** The bucket in which the running sum of weights reaches `target`, never an empty one, and the sum before it. */
  #massBucket(target: number): { bucket: number; before: number } {
    let bucket = 0;
    let before = 0;
    let sum = this.#bucketWeights[0] as number;
    for (let next = 1; next < stepMax && sum < target; next++) {
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
    this.#weigh(gatherPositions(this.#row, this.#max, this.#scale, from, to, this.#positions), to);
  }

  /** Weighs the first `count` positions by their logits; drops those whose distance in steps is `to` or more. */
  #weigh(count: number, to: number): void {
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const position = this.#positions[i] as number;
      const distance = (this.#max - (this.#row.logits[position] as number)) * this.#scale;
      if (!(distance < to)) continue;
      this.#positions[kept] = position;
      this.#weights[kept] = expNegativeSteps(distance);
      this.#buckets[kept] = distance | 0;
      kept++;
    }
    this.#count = kept;
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
