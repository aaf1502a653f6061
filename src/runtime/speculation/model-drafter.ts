import type { KvDemand } from '../kv/kv-cache.ts';
import type { Sequence } from '../sequences/sequence.ts';
import { DraftChain, type DraftModelOptions } from './draft-chain.ts';
import { DraftText } from './draft-text.ts';
import type { Drafter, DraftWish } from './drafter.ts';

/** Drafts of a smaller model with the same vocabulary. */
export class ModelDrafter implements Drafter {
  readonly name = 'draft-model';
  readonly #options: DraftModelOptions;
  readonly #texts = new Map<Sequence, DraftText>();
  readonly #chain: DraftChain;

  constructor(options: DraftModelOptions) {
    this.#options = options;
    this.#chain = new DraftChain(options);
  }

  propose(wishes: readonly DraftWish[]): Promise<void> {
    const texts: DraftText[] = [];
    for (const wish of wishes) {
      const text = this.#begin(wish);
      if (text) texts.push(text);
    }
    return this.#chain.run(texts);
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

  close(): void {
    this.#texts.clear();
    this.#chain.close();
  }
}
