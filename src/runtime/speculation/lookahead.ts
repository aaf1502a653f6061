import { draftTokensMax } from './governor.ts';
import type { NgramLengths } from './ngram-lengths.ts';

/** TensorRT-LLM's lookahead decoding: window W, n-gram size N, verification set G. */
export interface LookaheadSizes {
  window: number;
  ngram: number;
  verification: number;
}

/** How n-gram lookup does what lookahead decoding is asked for. */
export interface LookupChoice {
  draftsMax: number;
  lengths: NgramLengths;
}

/** Lookahead's own n-grams are found by their first token: so is what follows one token here, if nothing longer is found. */
const lookupMin = 1;

/**
 * Lookahead decoding verifies up to G n-grams that begin with the newest token, N − 1 tokens each. Prompt lookup verifies one, from the text itself: the same texts,
 * with at most N − 1 drafts a step. W, how far lookahead makes up n-grams beside, and G have no counterpart, and change no text.
 * @returns undefined where the sizes guess nothing
 */
export function lookaheadAsLookup({ window, ngram, verification }: LookaheadSizes): LookupChoice | undefined {
  const areSizes = [window, ngram, verification].every((size) => Number.isInteger(size) && size >= 1);
  if (!areSizes || ngram < 2) return undefined;
  const draftsMax = Math.min(ngram - 1, draftTokensMax);
  return { draftsMax, lengths: { max: Math.min(4, Math.max(lookupMin, draftsMax)), min: lookupMin } };
}

/** What {@link lookaheadAsLookup} takes, for errors. */
export const lookaheadRule =
  'window, n-gram and verification set sizes are whole numbers from 1, and n-grams of 2 at least guess anything';
