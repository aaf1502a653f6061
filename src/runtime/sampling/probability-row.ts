import { probabilityBlock } from '../../device/step.ts';

/**
 * One output row's probabilities, as a device made them. They say cheaply where likely tokens are: a block whose sum is below a
 * threshold holds none above it. What is drawn among those is then computed from their logits.
 */
export interface ProbabilityRow {
  values: Float32Array;
  start: number;
  width: number;
  /** What each whole block of {@link probabilityBlock} tokens sums to; a rest of fewer tokens has no sum and is always looked at. */
  blockSums: Float32Array;
  blockStart: number;
}

/** Room for rounding in a device's sums: far above what float32 loses over a block, far below what would let blocks in needlessly. */
const blockSlack = 1 - 1e-4;

/** The sum of all. */
export function sumProbabilities(row: ProbabilityRow): number {
  return sumBlocksAbove(row, 0);
}

/** What the tokens of blocks that sum to `threshold` or more have together: no less than what those at `threshold` or above have. */
export function sumBlocksAbove(
  { values, start, width, blockSums, blockStart }: ProbabilityRow,
  threshold: number,
): number {
  const blocks = Math.floor(width / probabilityBlock);
  const blockMin = threshold * blockSlack;
  let sum = 0;
  for (let block = blockStart; block < blockStart + blocks; block++) {
    const own = blockSums[block] as number;
    // Not the other way round: NaN must be summed.
    if (!(own < blockMin)) sum += own;
  }
  for (let position = start + blocks * probabilityBlock; position < start + width; position++) {
    sum += values[position] as number;
  }
  return sum;
}

const wordsPerBlock = probabilityBlock / 32;

/**
 * Takes all but the allowed tokens out of a row, in place; blocks that all are allowed, or none, are not looked into.
 * @param mask bit i mod 32 of word i / 32: whether token i is allowed
 */
export function maskProbabilities(row: ProbabilityRow, mask: Uint32Array): void {
  const { values, start, width, blockSums, blockStart } = row;
  const blocks = Math.floor(width / probabilityBlock);
  for (let block = 0; block < blocks; block++) {
    const low = mask[block * wordsPerBlock] as number;
    const high = mask[block * wordsPerBlock + 1] as number;
    if (low === 0xffffffff && high === 0xffffffff) continue;
    let sum = 0;
    // Of the first one the values count too: whoever looks for the likeliest begins there.
    if (low !== 0 || high !== 0 || block === 0) {
      const from = start + block * probabilityBlock;
      sum = keepAllowed(values, from, from + 32, low) + keepAllowed(values, from + 32, from + 64, high);
    }
    blockSums[blockStart + block] = sum;
  }
  for (let token = blocks * probabilityBlock; token < width; token += 32) {
    keepAllowed(values, start + token, start + Math.min(token + 32, width), mask[token >> 5] as number);
  }
}

/** @returns what the allowed ones sum to */
function keepAllowed(values: Float32Array, from: number, to: number, mask: number): number {
  let bits = mask;
  let sum = 0;
  for (let position = from; position < to; position++, bits >>>= 1) {
    if ((bits & 1) === 0) values[position] = 0;
    else sum += values[position] as number;
  }
  return sum;
}

/** Where the likeliest token lies. */
export function likeliestPosition(row: ProbabilityRow): number {
  const { start, width, blockSums, blockStart } = row;
  const blocks = Math.floor(width / probabilityBlock);
  let best = likeliestIn(row, start + blocks * probabilityBlock, start + width, start);
  let largest = 0;
  for (let block = 1; block < blocks; block++) {
    if ((blockSums[blockStart + block] as number) > (blockSums[blockStart + largest] as number))
      largest = block;
  }
  const look = (block: number) => {
    const from = start + block * probabilityBlock;
    best = likeliestIn(row, from, from + probabilityBlock, best);
  };
  if (blocks > 0) look(largest);
  for (let block = 0; block < blocks; block++) {
    if ((blockSums[blockStart + block] as number) > (row.values[best] as number) * blockSlack) look(block);
  }
  return best;
}

function likeliestIn({ values }: ProbabilityRow, from: number, to: number, known: number): number {
  let best = known;
  let max = values[best] as number;
  for (let position = from; position < to; position++) {
    const value = values[position] as number;
    if (value > max) {
      max = value;
      best = position;
    }
  }
  return best;
}

/** Writes the positions of `threshold` or more, ascending, and returns how many they are. */
export function gatherAbove(row: ProbabilityRow, threshold: number, positions: Int32Array): number {
  const { values, start, width, blockSums, blockStart } = row;
  const blocks = Math.floor(width / probabilityBlock);
  const blockMin = threshold * blockSlack;
  let count = 0;
  let from = start;
  for (let block = blockStart; block < blockStart + blocks; block++, from += probabilityBlock) {
    if ((blockSums[block] as number) < blockMin) continue;
    const to = from + probabilityBlock;
    for (let position = from; position < to; position++) {
      if ((values[position] as number) >= threshold) positions[count++] = position;
    }
  }
  for (let position = from; position < start + width; position++) {
    if ((values[position] as number) >= threshold) positions[count++] = position;
  }
  return count;
}

/**
 * The position in which the running sum, in order of positions, passes `target`; of those of at least `lowest`.
 * @returns −1 if rounding left nothing
 */
export function walkProbabilities(row: ProbabilityRow, target: number, lowest: number): number {
  const { values, start, width, blockSums, blockStart } = row;
  const blocks = Math.floor(width / probabilityBlock);
  let left = target;
  for (let block = 0; block <= blocks; block++) {
    const sum = block < blocks ? (blockSums[blockStart + block] as number) : Number.POSITIVE_INFINITY;
    if (left >= sum) {
      left -= sum;
      continue;
    }
    const from = start + block * probabilityBlock;
    const to = Math.min(from + probabilityBlock, start + width);
    for (let position = from; position < to; position++) {
      const value = values[position] as number;
      if (value < lowest) continue;
      left -= value;
      if (left < 0) return position;
    }
  }
  return -1;
}
