import type { LogitRow } from './logit-row.ts';

/** The token with the largest logit among those that a mask allows, the first of equal ones; −1 when none of them is finite. */
export function likeliestAllowed({ logits, start, width }: LogitRow, mask: Uint32Array): number {
  let best = -1;
  let max = Number.NEGATIVE_INFINITY;
  for (let word = 0, from = 0; from < width; word++, from += 32) {
    let bits = mask[word] as number;
    if (bits === 0) continue;
    const to = Math.min(from + 32, width);
    if (bits === 0xffffffff) {
      for (let token = from; token < to; token++) {
        const logit = logits[start + token] as number;
        if (logit > max) {
          max = logit;
          best = token;
        }
      }
      continue;
    }
    for (let token = from; bits !== 0 && token < to; token++, bits >>>= 1) {
      const logit = logits[start + token] as number;
      if ((bits & 1) !== 0 && logit > max) {
        max = logit;
        best = token;
      }
    }
  }
  return max < Number.POSITIVE_INFINITY ? best : -1;
}

/** A row with what a mask forbids put out of reach; the row itself stays as it is, for log-probabilities. Scratch memory for one vocabulary. */
export class MaskedRow {
  readonly #logits: Float32Array;

  constructor(vocabularySize: number) {
    this.#logits = new Float32Array(vocabularySize);
  }

  /**
   * A copy of the row in which all but the allowed tokens have no chance. Valid until the next call.
   * @param mask bit i mod 32 of word i / 32: whether token i is allowed
   */
  of(row: LogitRow, mask: Uint32Array): LogitRow {
    const masked = this.#logits;
    const { logits, start, width } = row;
    for (let word = 0, from = 0; from < width; word++, from += 32) {
      const to = Math.min(from + 32, width);
      const bits = mask[word] as number;
      if (bits === 0) masked.fill(Number.NEGATIVE_INFINITY, from, to);
      else if (bits === 0xffffffff) {
        for (let token = from; token < to; token++) masked[token] = logits[start + token] as number;
      } else {
        for (let token = from; token < to; token++) {
          const isAllowed = (bits >>> (token - from)) & 1;
          masked[token] = isAllowed ? (logits[start + token] as number) : Number.NEGATIVE_INFINITY;
        }
      }
    }
    return { logits: masked, start: 0, width };
  }
}
