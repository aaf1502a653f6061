import { definite } from '../../base/errors.ts';
import { phases } from '../../trace/phases.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import type { TokenCounts } from '../sequences/token-counts.ts';
import type { LogitRow } from './logit-row.ts';
import { bansStops, type RowSampling } from './row-sampling.ts';
import type { SamplingHistory } from './sampling-history.ts';

/** What a row's changes depend on. */
export interface AdjustmentContext {
  sampling: RowSampling;
  /** Tokens made so far. */
  generated: number;
  /** What was said so far; looked at only where {@link RowSampling.hasPenalties}. */
  counts: TokenCounts | undefined;
  /** The same, for bans and a decaying top-p; there where {@link RowSampling.needsHistory}. */
  history?: SamplingHistory | undefined;
}

/**
 * Changes a row's logits in place before a token is chosen, in vLLM's order: what is not allowed, bad words, repeated n-grams, stop ids
 * until `minTokens`, bias, then repetition, frequency and presence penalties. Touches only the tokens concerned where these are few, and
 * can put everything back.
 */
export class Adjustments {
  #changedPositions: number[] = [];
  #changedLogits: number[] = [];
  /** The whole row as it was, where more than a few of its logits change. */
  #kept: Float32Array | undefined;
  #isKept = false;

  apply(row: LogitRow, context: AdjustmentContext): void {
    const { sampling, generated, counts, history } = context;
    const bansStop = bansStops(sampling, generated);
    if (!bansStop && !sampling.changesLogits) return;
    threadTracer.begin(phases.logitsPostProcessor, sampling.requestId);
    threadTracer.begin(phases.applyMask);
    const { allowedTokens, embeddingBias } = sampling.parameters;
    if (allowedTokens || embeddingBias) this.#keep(row);
    if (allowedTokens) this.#allowOnly(row, allowedTokens);
    const ban = (token: number): void => this.#change(row, token, Number.NEGATIVE_INFINITY);
    history?.forEachBanned(ban);
    if (bansStop) for (const token of sampling.stopTokens) ban(token);
    threadTracer.end(phases.applyMask);
    if (embeddingBias) addBias(row, embeddingBias);
    for (const [index, token] of sampling.biasTokens.entries()) {
      const logit = row.logits[row.start + token] as number;
      this.#change(row, token, logit + (sampling.biasValues[index] as number));
    }
    if (sampling.hasPenalties) this.#penalize(row, sampling, definite(counts, 'counts of a penalized row'));
    threadTracer.end(phases.logitsPostProcessor, sampling.requestId);
  }

  /** Undoes {@link apply}, so that log-probabilities are those of the model. */
  restore(row: LogitRow): void {
    if (this.#isKept && this.#kept) {
      row.logits.set(this.#kept.subarray(0, row.width), row.start);
      this.#isKept = false;
      this.#changedPositions.length = 0;
      this.#changedLogits.length = 0;
      return;
    }
    for (let i = this.#changedPositions.length - 1; i >= 0; i--) {
      row.logits[this.#changedPositions[i] as number] = this.#changedLogits[i] as number;
    }
    this.#changedPositions.length = 0;
    this.#changedLogits.length = 0;
  }

  #penalize(row: LogitRow, sampling: RowSampling, { tokens, counts, size }: TokenCounts): void {
    const { repetitionPenalty, frequencyPenalty, presencePenalty } = sampling.parameters;
    for (let i = 0; i < size; i++) {
      const token = tokens[i] as number;
      const count = counts[i] as number;
      let logit = row.logits[row.start + token] as number;
      logit = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      if (count > 0) logit -= frequencyPenalty * count + presencePenalty;
      this.#change(row, token, logit);
    }
  }

  #keep(row: LogitRow): void {
    if (!this.#kept || this.#kept.length < row.width) this.#kept = new Float32Array(row.width);
    this.#kept.set(row.logits.subarray(row.start, row.start + row.width));
    this.#isKept = true;
  }

  /** Bans all but these; the row was kept before. */
  #allowOnly(row: LogitRow, tokens: Int32Array): void {
    const kept = definite(this.#kept, 'the row as it was');
    row.logits.fill(Number.NEGATIVE_INFINITY, row.start, row.start + row.width);
    for (const token of tokens) row.logits[row.start + token] = kept[token] as number;
  }

  #change(row: LogitRow, token: number, logit: number): void {
    const position = row.start + token;
    this.#changedPositions.push(position);
    this.#changedLogits.push(row.logits[position] as number);
    row.logits[position] = logit;
  }
}

function addBias(row: LogitRow, bias: Float32Array): void {
  const { logits, start } = row;
  for (let token = 0; token < bias.length; token++) {
    logits[start + token] = (logits[start + token] as number) + (bias[token] as number);
  }
}
