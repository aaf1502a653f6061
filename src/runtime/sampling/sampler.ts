import { phases } from '../../trace/phases.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import { RuntimeError } from '../errors.ts';
import { type AdjustmentContext, Adjustments } from './adjustments.ts';
import { Candidates, type Cuts } from './candidates.ts';
import type { Distribution } from './distribution.ts';
import { type LogitRow, likeliest, tokenAt } from './logit-row.ts';
import { likeliestAllowed, MaskedRow } from './masked-row.ts';
import type { ProbabilityRow } from './probability-row.ts';
import { bansStops, isPlainDraw } from './row-sampling.ts';

/** What a row's choice depends on beside its logits. */
export interface RowContext extends AdjustmentContext {
  /** Position of the token to choose. */
  position: number;
  /** The row's softmax at its own temperature, if the device made it. Used only where {@link isPlainDraw}. */
  probabilities?: ProbabilityRow | undefined;
  /** Of a guided row: the tokens that may come next, as `MaskedRow` reads it. */
  mask?: Uint32Array | undefined;
  /** In [0, 1), keyed by (seed, sequence, position); not used when greedy. */
  uniform: number;
}

/** Chooses tokens from rows of logits, with scratch memory for one vocabulary. A row's choice depends on nothing outside its context. */
export class Sampler {
  readonly #adjustments = new Adjustments();
  readonly #candidates: Candidates;
  readonly #vocabularySize: number;
  #masked: MaskedRow | undefined;
  readonly #cuts: Cuts = { temperature: 1, topK: 0, topP: 1, minP: 0 };

  constructor(vocabularySize: number) {
    this.#vocabularySize = vocabularySize;
    this.#candidates = new Candidates(vocabularySize);
  }

  /**
   * The next token. The row is changed meanwhile and put back.
   * @throws RuntimeError `LOGITS_INVALID` when no token is possible, `GRAMMAR_STUCK` when none is that a mask allows
   */
  sample(row: LogitRow, context: RowContext): number {
    if (context.mask) return this.#sampleMasked(row, context.mask, context);
    return this.#sample(row, context);
  }

  #sampleMasked(row: LogitRow, mask: Uint32Array, context: RowContext): number {
    const { requestId } = context.sampling;
    threadTracer.begin(phases.logitsPostProcessor, requestId);
    threadTracer.begin(phases.applyMask);
    const token = this.#plainMasked(row, mask, context);
    this.#masked ??= new MaskedRow(this.#vocabularySize);
    const masked = token < 0 ? this.#masked.of(row, mask) : row;
    threadTracer.end(phases.applyMask);
    threadTracer.end(phases.logitsPostProcessor, requestId);
    if (token >= 0) return token;
    if (likeliest(masked) < 0) throw nothingAllowed(context.position);
    return this.#sample(masked, { ...context, probabilities: undefined });
  }

  /** The token of a guided row that nothing else changes; −1 where the whole row must be looked at. */
  #plainMasked(row: LogitRow, mask: Uint32Array, context: RowContext): number {
    const { sampling, generated, probabilities, uniform } = context;
    if (sampling.changesLogits || bansStops(sampling, generated)) return -1;
    if (sampling.isGreedy) return likeliestAllowed(row, mask);
    if (!probabilities || !isPlainDraw(sampling, generated)) return -1;
    return this.#candidates.drawLikely(row, probabilities, this.#cutsOf(context), uniform, mask);
  }

  #sample(row: LogitRow, context: RowContext): number {
    const { sampling, generated, position, probabilities, uniform } = context;
    const cuts = this.#cutsOf(context);
    if (probabilities && isPlainDraw(sampling, generated)) {
      const token = this.#candidates.drawLikely(row, probabilities, cuts, uniform);
      if (token >= 0) return token;
    }
    this.#adjustments.apply(row, context);
    try {
      const best = likeliest(row);
      if (best < 0) throw noToken(position);
      if (sampling.isGreedy) return tokenAt(row, best);
      return this.#candidates.draw(row, best, cuts, uniform);
    } finally {
      this.#adjustments.restore(row);
    }
  }

  /** What {@link sample} would draw from, without a mask; undefined where no token is possible. The row is changed meanwhile and put back. */
  distribution(row: LogitRow, context: RowContext): Distribution | undefined {
    this.#adjustments.apply(row, context);
    try {
      const best = likeliest(row);
      return best < 0 ? undefined : this.#candidates.distribution(row, best, this.#cutsOf(context));
    } finally {
      this.#adjustments.restore(row);
    }
  }

  /** What somebody makes of the row as its request changes it: penalties, bias, bans. The row is put back. */
  adjusted<T>(row: LogitRow, context: AdjustmentContext, use: () => T): T {
    this.#adjustments.apply(row, context);
    try {
      return use();
    } finally {
      this.#adjustments.restore(row);
    }
  }

  /** The request's own, or those with a top-p that has decayed. */
  #cutsOf({ sampling: { parameters }, history }: RowContext): Cuts {
    if (!parameters.topPDecay || !history) return parameters;
    const cuts = this.#cuts;
    cuts.temperature = parameters.temperature;
    cuts.topK = parameters.topK;
    cuts.topP = history.topP;
    cuts.minP = parameters.minP;
    return cuts;
  }
}

/** A grammar allows tokens, but none of them is possible. */
export function nothingAllowed(position: number): RuntimeError {
  return new RuntimeError(
    'GRAMMAR_STUCK',
    `no token goes on at position ${position} as the grammar asks: the vocabulary has none, or all are banned (logit bias, min tokens); loosen either`,
  );
}

/** No token of a row is possible. */
export function noToken(position: number): RuntimeError {
  return new RuntimeError(
    'LOGITS_INVALID',
    `no token is possible at position ${position}: all are banned (logit bias, min tokens, allowed tokens, bad words, n-grams), or the model made NaN or infinity; ` +
      'loosen the bans, or try the engine with another type of weights or KV cache',
  );
}
