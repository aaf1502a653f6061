import { RecentTokens } from './recent-tokens.ts';
import { RepeatedNgrams } from './repeated-ngrams.ts';
import type { RowSampling } from './row-sampling.ts';

/**
 * What a sequence's choices depend on of all that was said, beside counts: kept up token by token, so that a step costs the same however
 * long the text is. Needed only where {@link RowSampling.needsHistory}.
 */
export class SamplingHistory {
  readonly #sampling: RowSampling;
  /** The end of the output. */
  readonly #recent: RecentTokens;
  readonly #ngrams: RepeatedNgrams | undefined;
  /** Top-p of the next token. */
  topP: number;

  constructor(sampling: RowSampling, prompt: Int32Array) {
    const { noRepeatNgramSize = 0, topP } = sampling.parameters;
    this.#sampling = sampling;
    this.#recent = new RecentTokens(sampling.badWords?.prefixLengthMax ?? 0);
    this.topP = topP;
    if (noRepeatNgramSize === 0) return;
    this.#ngrams = new RepeatedNgrams(noRepeatNgramSize);
    for (const token of prompt) this.#ngrams.add(token);
  }

  /** A token of the output. */
  add(token: number): void {
    this.#recent.add(token);
    this.#ngrams?.add(token);
    const { topP, topPDecay } = this.#sampling.parameters;
    if (!topPDecay) return;
    const { factor, min, resetToken } = topPDecay;
    this.topP = token === resetToken ? topP : Math.min(topP, Math.max(min, this.topP * factor));
  }

  /** Calls `ban` with each token that may not come next; with some twice. */
  forEachBanned(ban: (token: number) => void): void {
    this.#sampling.badWords?.forEachBanned(this.#recent, ban);
    this.#ngrams?.forEachBanned(ban);
  }
}
