import { definite } from '../../base/errors.ts';
import { phases } from '../../trace/phases.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import type { TokenCounts } from '../sequences/token-counts.ts';
import type { LogitRow } from './logit-row.ts';
import { bansStops, type RowSampling } from './row-sampling.ts';

/**
 * Changes a row's logits in place before a token is chosen, in vLLM's order: stop ids banned until `minTokens`, logit bias, then
 * repetition, frequency and presence penalties. Touches only the tokens concerned and can put everything back.
 */
export class Adjustments {
  #changedPositions: number[] = [];
  #changedLogits: number[] = [];

  /**
   * @param generated tokens made so far
   * @param counts what was said so far; needed only where the sampling has penalties
   */
  apply(row: LogitRow, sampling: RowSampling, generated: number, counts: TokenCounts | undefined): void {
    const bansStop = bansStops(sampling, generated);
    if (!bansStop && sampling.biasTokens.length === 0 && !sampling.hasPenalties) return;
    threadTracer.begin(phases.logitsPostProcessor, sampling.requestId);
    if (bansStop) {
      threadTracer.begin(phases.applyMask);
      for (const token of sampling.stopTokens) this.#change(row, token, Number.NEGATIVE_INFINITY);
      threadTracer.end(phases.applyMask);
    }
    for (const [index, token] of sampling.biasTokens.entries()) {
      const logit = row.logits[row.start + token] as number;
      this.#change(row, token, logit + (sampling.biasValues[index] as number));
    }
    if (sampling.hasPenalties) this.#penalize(row, sampling, definite(counts, 'counts of a penalized row'));
    threadTracer.end(phases.logitsPostProcessor, sampling.requestId);
  }

  /** Undoes {@link apply}, so that log-probabilities are those of the model. */
  restore(row: LogitRow): void {
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

  #change(row: LogitRow, token: number, logit: number): void {
    const position = row.start + token;
    this.#changedPositions.push(position);
    this.#changedLogits.push(row.logits[position] as number);
    row.logits[position] = logit;
  }
}
