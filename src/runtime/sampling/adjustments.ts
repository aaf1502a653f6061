import type { LogitRow } from './logit-row.ts';
import { bansStops, type RowSampling } from './row-sampling.ts';

/**
 * Changes a row's logits in place before a token is chosen, in vLLM's order: stop ids banned until `minTokens`, logit bias, then
 * repetition, frequency and presence penalties. Touches only the tokens concerned and can put everything back.
 */
export class Adjustments {
  /** By token: how often it is in the output, and whether it is in prompt or output; all zero between rows. */
  readonly #counts: Int32Array;
  readonly #seen: Uint8Array;
  /** By token: its place in a row of candidates; all −1 between rows. */
  readonly #places: Int32Array;
  readonly #touched: Int32Array;
  #changedPositions: number[] = [];
  #changedLogits: number[] = [];

  constructor(vocabularySize: number) {
    this.#counts = new Int32Array(vocabularySize);
    this.#seen = new Uint8Array(vocabularySize);
    this.#places = new Int32Array(vocabularySize).fill(-1);
    this.#touched = new Int32Array(vocabularySize);
  }

  /** @param tokens prompt and output so far */
  apply(row: LogitRow, sampling: RowSampling, tokens: Int32Array, promptLength: number): void {
    const bansStop = bansStops(sampling, tokens.length - promptLength);
    if (!bansStop && sampling.biasTokens.length === 0 && !sampling.hasPenalties) return;
    if (row.ids) this.#place(row, row.ids);
    if (bansStop) {
      for (const token of sampling.stopTokens) this.#set(row, token, Number.NEGATIVE_INFINITY);
    }
    for (const [index, token] of sampling.biasTokens.entries()) {
      this.#add(row, token, sampling.biasValues[index] as number);
    }
    if (sampling.hasPenalties) this.#penalize(row, sampling, tokens, promptLength);
    if (row.ids) this.#unplace(row, row.ids);
  }

  /** Undoes {@link apply}, so that log-probabilities are those of the model. */
  restore(row: LogitRow): void {
    for (let i = this.#changedPositions.length - 1; i >= 0; i--) {
      row.logits[this.#changedPositions[i] as number] = this.#changedLogits[i] as number;
    }
    this.#changedPositions.length = 0;
    this.#changedLogits.length = 0;
  }

  #penalize(row: LogitRow, sampling: RowSampling, tokens: Int32Array, promptLength: number): void {
    const { repetitionPenalty, frequencyPenalty, presencePenalty } = sampling.parameters;
    const touched = this.#count(tokens, promptLength);
    for (let i = 0; i < touched; i++) {
      const token = this.#touched[i] as number;
      const count = this.#counts[token] as number;
      this.#counts[token] = 0;
      this.#seen[token] = 0;
      const position = this.#positionOf(row, token);
      if (position < 0) continue;
      let logit = row.logits[position] as number;
      logit = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      if (count > 0) logit -= frequencyPenalty * count + presencePenalty;
      this.#change(row, position, logit);
    }
  }

  /** Fills counts and the list of distinct tokens; returns that list's length. */
  #count(tokens: Int32Array, promptLength: number): number {
    let touched = 0;
    for (let index = 0; index < tokens.length; index++) {
      const token = tokens[index] as number;
      if (this.#seen[token] === 0) {
        this.#seen[token] = 1;
        this.#touched[touched++] = token;
      }
      if (index >= promptLength) this.#counts[token] = (this.#counts[token] as number) + 1;
    }
    return touched;
  }

  #set(row: LogitRow, token: number, logit: number): void {
    const position = this.#positionOf(row, token);
    if (position >= 0) this.#change(row, position, logit);
  }

  #add(row: LogitRow, token: number, bias: number): void {
    const position = this.#positionOf(row, token);
    if (position >= 0) this.#change(row, position, (row.logits[position] as number) + bias);
  }

  #change(row: LogitRow, position: number, logit: number): void {
    this.#changedPositions.push(position);
    this.#changedLogits.push(row.logits[position] as number);
    row.logits[position] = logit;
  }

  /** −1 when the token is not among the row's candidates: it counts as impossible, whatever its bias. */
  #positionOf(row: LogitRow, token: number): number {
    return row.ids ? (this.#places[token] as number) : row.start + token;
  }

  #place(row: LogitRow, ids: Int32Array): void {
    for (let position = row.start; position < row.start + row.width; position++) {
      this.#places[ids[position] as number] = position;
    }
  }

  #unplace(row: LogitRow, ids: Int32Array): void {
    for (let position = row.start; position < row.start + row.width; position++) {
      this.#places[ids[position] as number] = -1;
    }
  }
}
