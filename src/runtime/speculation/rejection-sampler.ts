import type { DraftTokens } from '../requests/request.ts';
import type { LogitRow } from '../sampling/logit-row.ts';
import type { RowContext, Sampler } from '../sampling/sampler.ts';
import type { Sequence } from '../sequences/sequence.ts';
import { rejectionDraws, verifyDrawn } from './rejection.ts';

/**
 * Chooses the tokens of rows that verify a request's own drafts, whose logits came with them: by the rejection rule, where the sampler would draw. Both
 * distributions are cut and changed as the request's sampling says, as they were where the drafts were drawn.
 */
export class RejectionSampler implements Pick<Sampler, 'sample'> {
  readonly #sampler: Sampler;
  readonly #draft: DraftTokens;
  readonly #logits: Float32Array;
  readonly #sequence: Sequence;
  /** Position of the first draft. */
  readonly #start: number;

  /** @param sequence the drafts are for what it says next */
  constructor(sampler: Sampler, draft: DraftTokens, logits: Float32Array, sequence: Sequence) {
    this.#sampler = sampler;
    this.#draft = draft;
    this.#logits = logits;
    this.#sequence = sequence;
    this.#start = sequence.length;
  }

  sample(row: LogitRow, context: RowContext): number {
    const index = context.position - this.#start;
    const { tokens, threshold } = this.#draft;
    const token = tokens[index];
    const drafted = token === undefined ? undefined : this.#draftedFrom(index, row.width, context);
    // Behind the last draft, or without a distribution, there is nothing to compare with.
    if (token === undefined || !drafted) return this.#sampler.sample(row, context);
    const target = this.#sampler.distribution(row, context);
    if (!target) return this.#sampler.sample(row, context);
    const { owner, index: sequence } = this.#sequence;
    const draws = rejectionDraws(owner.seed, sequence, context.position);
    return verifyDrawn(target, { token, distribution: drafted, threshold }, draws);
  }

  #draftedFrom(index: number, width: number, context: RowContext) {
    return this.#sampler.distribution({ logits: this.#logits, start: index * width, width }, context);
  }
}
