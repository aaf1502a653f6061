import type { AttentionAttributes } from '../../../graph/ops.ts';
import type { KvBlocks } from '../kv-blocks.ts';
import { softmaxWeights } from './normalize.ts';

/** One sequence's rows of a step. */
export interface Segment {
  rows: number;
  /** Positions in the sequence's KV after the step. */
  kvLength: number;
  /** Where they lie. */
  blocks: Int32Array;
}

/**
 * Appends this step's k and v to each segment's KV, then lets every query row see its sequence's positions up to its own (and within the
 * window). q is [tokens, heads, headDimension]; the result [tokens, heads · valueHeadDimension].
 */
export function attention(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  attributes: AttentionAttributes,
  segments: readonly Segment[],
  kv: KvBlocks,
): Float32Array {
  const { layer, heads, kvHeads, headDimension, valueHeadDimension } = attributes;
  const keyElements = kvHeads * headDimension;
  const valueElements = kvHeads * valueHeadDimension;
  const out = new Float32Array((q.length / headDimension) * valueHeadDimension);
  let firstRow = 0;
  for (const { rows, kvLength, blocks } of segments) {
    const start = kvLength - rows;
    const lastRow = firstRow + rows;
    const own = (all: Float32Array, elements: number) =>
      all.subarray(firstRow * elements, lastRow * elements);
    kv.write(blocks, layer, start, own(k, keyElements), own(v, valueElements));
    const cached = kv.gather(blocks, layer, kvLength);
    for (let row = 0; row < rows; row++) {
      for (let head = 0; head < heads; head++) {
        const index = (firstRow + row) * heads + head;
        const query = q.subarray(index * headDimension, (index + 1) * headDimension);
        const result = attend(query, cached.keys, cached.values, head, start + row, attributes);
        out.set(result, index * valueHeadDimension);
      }
    }
    firstRow += rows;
  }
  return out;
}

/** One query head at `position` over the cached keys and values that it sees. */
function attend(
  query: Float32Array,
  keys: Float32Array,
  values: Float32Array,
  head: number,
  position: number,
  attributes: AttentionAttributes,
): Float64Array {
  const { heads, kvHeads, headDimension, valueHeadDimension, scale, window, softcap } = attributes;
  const kvHead = Math.floor(head / (heads / kvHeads));
  const first = window === undefined ? 0 : Math.max(0, position - window + 1);
  const scores: number[] = [];
  for (let at = first; at <= position; at++) {
    const key = (at * kvHeads + kvHead) * headDimension;
    let score = 0;
    for (let i = 0; i < headDimension; i++) score += (query[i] as number) * (keys[key + i] as number);
    score *= scale;
    scores.push(softcap === undefined ? score : softcap * Math.tanh(score / softcap));
  }
  const result = new Float64Array(valueHeadDimension);
  for (const [index, weight] of softmaxWeights(scores).entries()) {
    const value = ((first + index) * kvHeads + kvHead) * valueHeadDimension;
    for (let i = 0; i < valueHeadDimension; i++) {
      result[i] = (result[i] as number) + weight * (values[value + i] as number);
    }
  }
  return result;
}
