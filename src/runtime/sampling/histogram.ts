import { weightTable } from './exponential.ts';
import type { LogitRow } from './logit-row.ts';

/*
 * The loops over a whole vocabulary, one a function, with the table in a local and `stepMax` (2048) and `stepsPerUnit` (64) as literals:
 * V8 then keeps all in registers (2.5 ns a logit; with imported bindings inside the loop it was 20). A test holds them equal. Their conditional moves cost no misprediction and also turn
 * NaN into "infinitely far" (Math.min would keep it).
 */

/** Adds each logit's weight e^−distance to the bucket of its distance in steps; the last bucket takes what is too far to weigh. */
export function addWeights(row: LogitRow, max: number, scale: number, weights: Float64Array): void {
  const { logits, start } = row;
  const end = start + row.width;
  const table = weightTable;
  const limit = 2048;
  const unit = 1 / 64;
  for (let position = start; position < end; position++) {
    const distance = (max - (logits[position] as number)) * scale;
    const steps = distance < limit ? distance : limit;
    const bucket = steps | 0;
    const rest = (steps - bucket) * unit;
    // expNegativeSteps, by hand.
    const weight = (table[bucket] as number) * (1 - rest * (1 - rest * (0.5 - rest * (1 / 6))));
    weights[bucket] = (weights[bucket] as number) + weight;
  }
}

/** Sum over the row of the weights that {@link addWeights} would add. */
export function sumWeights(row: LogitRow, max: number, scale: number): number {
  const { logits, start } = row;
  const end = start + row.width;
  const table = weightTable;
  const limit = 2048;
  const unit = 1 / 64;
  let sum = 0;
  for (let position = start; position < end; position++) {
    const distance = (max - (logits[position] as number)) * scale;
    const steps = distance < limit ? distance : limit;
    const bucket = steps | 0;
    const rest = (steps - bucket) * unit;
    sum += (table[bucket] as number) * (1 - rest * (1 - rest * (0.5 - rest * (1 / 6))));
  }
  return sum;
}

/** Sets `sums` to the weights of each `size` logits in order of position, the last ones maybe fewer. Returns the sum of all. */
export function weighBlocks(
  row: LogitRow,
  max: number,
  scale: number,
  size: number,
  sums: Float64Array,
): number {
  const block: LogitRow = { ...row };
  const end = row.start + row.width;
  let total = 0;
  let index = 0;
  for (block.start = row.start; block.start < end; block.start += size, index++) {
    block.width = Math.min(size, end - block.start);
    const sum = sumWeights(block, max, scale);
    sums[index] = sum;
    total += sum;
  }
  return total;
}

/** Counts the logits of each bucket. */
export function addCounts(row: LogitRow, max: number, scale: number, counts: Int32Array): void {
  const { logits, start } = row;
  const end = start + row.width;
  const limit = 2048;
  for (let position = start; position < end; position++) {
    const distance = (max - (logits[position] as number)) * scale;
    const bucket = (distance < limit ? distance : limit) | 0;
    counts[bucket] = (counts[bucket] as number) + 1;
  }
}

/** Writes the positions whose distance in steps is in [from, to), and returns how many they are: few, or the branch is dear. */
export function gatherPositions(
  row: LogitRow,
  max: number,
  scale: number,
  from: number,
  to: number,
  positions: Int32Array,
): number {
  const { logits, start } = row;
  const end = start + row.width;
  // One comparison sorts out nearly all; its slack leaves rounding to the exact ones.
  const lowest = max - (to / scale) * (1 + 1e-6) - Math.abs(max) * 1e-6;
  let count = 0;
  for (let position = start; position < end; position++) {
    const logit = logits[position] as number;
    if (!(logit >= lowest)) continue;
    const distance = (max - logit) * scale;
    if (distance < to && distance >= from) positions[count++] = position;
  }
  return count;
}
