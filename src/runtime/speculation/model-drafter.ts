import { definite } from '../../base/errors.ts';
import { uniform } from '../../base/random.ts';
import type { DeviceModel } from '../../device/device.ts';
import type { StepOutput } from '../../device/step.ts';
import type { KvCache, KvDemand } from '../kv/kv-cache.ts';
import { isSurvivable } from '../loop/step-pipeline.ts';
import { probabilitiesOf, rowOf } from '../sampling/logit-row.ts';
import { Sampler } from '../sampling/sampler.ts';
import type { Sequence } from '../sequences/sequence.ts';
import { DraftBatches } from './draft-batch.ts';
import { DraftText } from './draft-text.ts';
import type { Drafter, DraftWish } from './drafter.ts';

/** A draft model on its device, with a KV cache of its own. */
export interface DraftModelOptions {
  model: DeviceModel;
  cache: KvCache;
  vocabularySize: number;
  contextLength: number;
  /** Rows of one of its steps. */
  batchTokensMax: number;
}

/**
 * Drafts of a smaller model with the same vocabulary, token by token, all sequences side by side. It draws as its sequence does, with the
 * same keys: where both models' distributions are alike, a draw falls on the same token.
 */
export class ModelDrafter implements Drafter {
  readonly name = 'draft-model';
  readonly #options: DraftModelOptions;
  readonly #texts = new Map<Sequence, DraftText>();
  readonly #batches: DraftBatches;
  readonly #sampler: Sampler;

  constructor(options: DraftModelOptions) {
    this.#options = options;
    const { cache, batchTokensMax, model } = options;
    this.#batches = new DraftBatches({ cache, batchTokensMax, samplingFeatures: model.samplingFeatures });
    this.#sampler = new Sampler(options.vocabularySize);
  }

  async propose(wishes: readonly DraftWish[]): Promise<void> {
    const texts: DraftText[] = [];
    for (const wish of wishes) {
      const text = this.#begin(wish);
      if (text) texts.push(text);
    }
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

  forget(sequence: Sequence): void {
    const text = this.#texts.get(sequence);
    if (!text) return;
    this.#texts.delete(sequence);
    this.#options.cache.release(text.place, sequence, sequence.finish !== 'error');
  }

  /** Makes room for a sequence's drafts; undefined where there is none. */
  #begin({ sequence, draftsMax }: DraftWish): DraftText | undefined {
    const { cache, contextLength } = this.#options;
    const fitting = Math.min(draftsMax, contextLength - sequence.length + 1);
    if (fitting <= 0) return undefined;
    const text = this.#texts.get(sequence) ?? this.#admit(sequence);
    if (!text) return undefined;
    text.begin(fitting);
    cache.commit(text.place, sequence, text.computed);
    return text;
  }

  #admit(sequence: Sequence): DraftText | undefined {
    const { cache, contextLength } = this.#options;
    const positions = Math.min(sequence.positionsWorst, contextLength);
    const demand: KvDemand = {
      prefixKey: sequence.owner.prefixKey,
      tokens: sequence,
      reusableMax: sequence.length - 1,
      promptLength: sequence.promptLength,
    };
    if (cache.cost(demand, positions) > cache.unitsFree) return undefined;
    const text = new DraftText(sequence, cache.reserve(demand, positions));
    this.#texts.set(sequence, text);
    return text;
  }

  /** One step of the draft model: a draft for each text that lacks nothing before it. */
  async #step(open: readonly DraftText[]): Promise<void> {
    const { model } = this.#options;
    const { batch, texts, rows } = this.#batches.next(open);
    model.launch(batch);
    const { output } = await model.collect();
    for (const [text, own] of rows) text.computed += own;
    for (const [row, text] of texts.entries()) {
      const token = this.#choose(output, row, text);
      if (token >= 0) text.drafts.push(token);
      // No token is possible for the draft model: it has no more to say here.
      else text.draftsMax = text.drafts.length;
    }
  }

  /** @returns a token, or a negative number where none is possible */
  #choose(output: StepOutput, row: number, { sequence, length }: DraftText): number {
    const token = output.tokens[row] as number;
    if (token >= 0 || !output.logits) return token;
    const { vocabularySize } = this.#options;
    const { sampling, seed } = sequence.owner;
    const logits = definite(output.logits, 'logits');
    const place = logits.places ? (logits.places[row] as number) : row;
    if (place < 0) return token;
    return this.#sampler.sample(rowOf(logits, place, vocabularySize), {
      sampling,
      generated: length - sequence.promptLength,
      position: length,
      // What was drafted is not counted: it may never be said.
      counts: sampling.hasPenalties ? sequence.counts : undefined,
      history: sampling.needsHistory ? sequence.history : undefined,
      probabilities: probabilitiesOf(logits, place, vocabularySize),
      uniform: sampling.isGreedy ? 0 : uniform(seed, sequence.index, length),
    });
  }

  close(): void {
    this.#texts.clear();
    this.#options.model.close();
  }
}
