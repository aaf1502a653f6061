import type { Sequence } from '../sequences/sequence.ts';
import { DraftChain, type DraftModelOptions } from './draft-chain.ts';
import type { Drafter, DraftWish } from './drafter.ts';
import { HeadText } from './head-text.ts';

/** Drafts of a head over the target's own hidden states (EAGLE): they come with every step, at the price of a copy. */
export class HeadDrafter implements Drafter {
  readonly name = 'draft-head';
  readonly #options: DraftModelOptions;
  readonly #chain: DraftChain;
  /** Of sequences that end unseen, nothing is left. */
  readonly #texts = new WeakMap<Sequence, HeadText>();

  constructor(options: DraftModelOptions) {
    this.#options = options;
    this.#chain = new DraftChain(options);
  }

  takeHidden(sequence: Sequence, values: Float32Array, row: number): void {
    const { hiddenWidth = 0 } = this.#options;
    let text = this.#texts.get(sequence);
    if (!text) {
      text = new HeadText(sequence);
      this.#texts.set(sequence, text);
    }
    text.listen(sequence.length - 1, values.slice(row * hiddenWidth, (row + 1) * hiddenWidth));
  }

  propose(wishes: readonly DraftWish[]): Promise<void> {
    const texts: HeadText[] = [];
    for (const { sequence, draftsMax } of wishes) {
      const text = this.#texts.get(sequence);
      if (text && this.#place(text) && text.begin(draftsMax, this.#options.contextLength)) texts.push(text);
    }
    return this.#chain.run(texts);
  }

  /** @returns whether it has room in the cache */
  #place(text: HeadText): boolean {
    if (text.isPlaced) return true;
    const { cache, contextLength } = this.#options;
    const { sequence } = text;
    const positions = Math.min(sequence.positionsWorst, contextLength);
    // Its rows depend on what was said before them: nobody shares them.
    const demand = { prefixKey: '', tokens: sequence, reusableMax: 0, promptLength: 0 };
    if (cache.cost(demand, positions) > cache.unitsFree) return false;
    text.place = cache.reserve(demand, positions);
    return true;
  }

  forget(sequence: Sequence): void {
    const text = this.#texts.get(sequence);
    this.#texts.delete(sequence);
    if (text?.isPlaced) this.#options.cache.release(text.place, sequence, false);
  }

  close(): void {
    this.#chain.close();
  }
}
