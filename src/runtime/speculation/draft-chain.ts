import { definite } from '../../base/errors.ts';
import { uniform } from '../../base/random.ts';
import type { DeviceModel } from '../../device/device.ts';
import type { StepOutput } from '../../device/step.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import { isSurvivable } from '../loop/step-pipeline.ts';
import { probabilitiesOf, rowOf } from '../sampling/logit-row.ts';
import { Sampler } from '../sampling/sampler.ts';
import { DraftBatches } from './draft-batch.ts';
import type { DraftedText } from './drafted-text.ts';

/** A draft model (or head) on its device, with a KV cache of its own. */
export interface DraftModelOptions {
  model: DeviceModel;
  cache: KvCache;
  vocabularySize: number;
  contextLength: number;
  /** Rows of one of its steps. */
  batchTokensMax: number;
  /** Columns of the hidden states that its rows start from; absent for a model of its own. */
  hiddenWidth?: number | undefined;
}

/**
 * Drafts token by token, all texts side by side. It draws as their sequences do, with the same keys: where both models' distributions are alike, a
 * draw falls on the same token.
 */
export class DraftChain {
  readonly #options: DraftModelOptions;
  readonly #batches: DraftBatches;
  readonly #sampler: Sampler;

  constructor(options: DraftModelOptions) {
    this.#options = options;
    const { cache, batchTokensMax, model, hiddenWidth } = options;
    const { samplingFeatures } = model;
    this.#batches = new DraftBatches({ cache, batchTokensMax, samplingFeatures, hiddenWidth });
    this.#sampler = new Sampler(options.vocabularySize);
  }

  /** Drafts until each text has as many as it wants, and hands them to their sequences. */
  async run(texts: readonly DraftedText[]): Promise<void> {
    try {
      let open = texts.filter(({ isDone }) => !isDone);
      while (open.length > 0) {
        await this.#step(open);
        open = open.filter(({ isDone }) => !isDone);
      }
    } catch (thrown) {
      // A step that finds no room now: the texts go on without drafts.
      if (!isSurvivable(thrown)) throw thrown;
    }
    for (const { sequence, drafts } of texts) sequence.drafts = drafts;
  }

  /** One step: a draft for each text that lacks nothing before it. */
  async #step(open: readonly DraftedText[]): Promise<void> {
    const { model } = this.#options;
    const { batch, texts, rows } = this.#batches.next(open);
    model.launch(batch);
    const { output } = await model.collect();
    for (const [text, own] of rows) text.advance(own);
    for (const [row, text] of texts.entries()) {
      const token = this.#choose(output, row, text);
      if (token >= 0) {
        this.#keepHidden(output, row, text);
        text.drafts.push(token);
        // Behind the end of the text there is nothing to guess.
        if (text.sequence.owner.stopTokens.has(token)) text.draftsMax = text.drafts.length;
      }
      // No token is possible for the draft model: it has no more to say here.
      else text.draftsMax = text.drafts.length;
    }
  }

  #keepHidden({ rowHidden }: StepOutput, row: number, text: DraftedText): void {
    const { hiddenWidth } = this.#options;
    if (!rowHidden || hiddenWidth === undefined) return;
    const place = rowHidden.places ? (rowHidden.places[row] as number) : row;
    text.takeHidden?.(rowHidden.values.slice(place * hiddenWidth, (place + 1) * hiddenWidth));
  }

  /** @returns a token, or a negative number where none is possible */
  #choose(output: StepOutput, row: number, { sequence, nextPosition }: DraftedText): number {
    const token = output.tokens[row] as number;
    if (token >= 0 || !output.logits) return token;
    const { vocabularySize } = this.#options;
    const { sampling, seed } = sequence.owner;
    const logits = definite(output.logits, 'logits');
    const place = logits.places ? (logits.places[row] as number) : row;
    if (place < 0) return token;
    return this.#sampler.sample(rowOf(logits, place, vocabularySize), {
      sampling,
      generated: nextPosition - sequence.promptLength,
      position: nextPosition,
      // What was drafted is not counted: it may never be said.
      counts: sampling.hasPenalties ? sequence.counts : undefined,
      history: sampling.needsHistory ? sequence.history : undefined,
      probabilities: probabilitiesOf(logits, place, vocabularySize),
      uniform: sampling.isGreedy ? 0 : uniform(seed, sequence.index, nextPosition),
    });
  }

  close(): void {
    this.#options.model.close();
  }
}
