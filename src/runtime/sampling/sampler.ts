import { RuntimeError } from '../errors.ts';
import { Adjustments } from './adjustments.ts';
import { Candidates } from './candidates.ts';
import { argmax, type LogitRow, tokenAt } from './logit-row.ts';
import type { ProbabilityRow } from './probability-row.ts';
import { isPlainDraw, type RowSampling } from './row-sampling.ts';

/** What a row's choice depends on beside its logits. */
export interface RowContext {
  sampling: RowSampling;
  /** Prompt and output so far. */
  tokens: Int32Array;
  promptLength: number;
  /** The row's softmax at its own temperature, if the device made it. Used only where {@link isPlainDraw}. */
  probabilities?: ProbabilityRow | undefined;
  /** In [0, 1), keyed by (seed, sequence, position); not used when greedy. */
  uniform: number;
}

/** Chooses tokens from rows of logits, with scratch memory for one vocabulary. A row's choice depends on nothing outside its context. */
export class Sampler {
  readonly #adjustments: Adjustments;
  readonly #candidates: Candidates;

  constructor(vocabularySize: number) {
    this.#adjustments = new Adjustments(vocabularySize);
    this.#candidates = new Candidates(vocabularySize);
  }

  /**
   * The next token. The row is changed meanwhile and put back.
   * @throws RuntimeError `LOGITS_INVALID` when no token is possible
   */
  sample(row: LogitRow, context: RowContext): number {
    const { sampling, tokens, promptLength, probabilities, uniform } = context;
    if (probabilities && isPlainDraw(sampling, tokens.length - promptLength)) {
      const token = this.#candidates.drawLikely(row, probabilities, sampling.parameters, uniform);
      if (token >= 0) return token;
    }
    this.#adjustments.apply(row, sampling, tokens, promptLength);
    try {
      const best = argmax(row);
      if (best < 0) throw noToken(tokens.length);
      if (sampling.isGreedy) return tokenAt(row, best);
      return this.#candidates.draw(row, best, sampling.parameters, uniform);
    } finally {
      this.#adjustments.restore(row);
    }
  }
}

function noToken(position: number): RuntimeError {
  return new RuntimeError(
    'LOGITS_INVALID',
    `no token is possible at position ${position}: all are banned (logit bias, min tokens), or the model made NaN or infinity; ` +
      'loosen the bans, or try the engine with another type of weights or KV cache',
  );
}
