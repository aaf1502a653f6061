import type { TokenSource } from '../kv/kv-cache.ts';
import { chunkHash, rootHash } from '../kv/prefix-hash.ts';

/** The hashes of a prompt's prefixes, chunk by chunk, as engines compute them (`kv/prefix-index.ts`); each is computed when it is asked for. */
export class PromptHashes {
  /** Chunks that may come from the cache: the last token is always computed, for its logits. */
  readonly count: number;
  readonly chunkPositions: number;
  readonly #tokens: TokenSource;
  readonly #root: number;
  readonly #hashes: number[] = [];

  constructor(prompt: Int32Array, prefixKey: string, chunkPositions: number) {
    this.count = Math.floor((prompt.length - 1) / chunkPositions);
    this.chunkPositions = chunkPositions;
    this.#tokens = { length: prompt.length, tokenAt: (position) => prompt[position] as number };
    this.#root = rootHash(prefixKey);
  }

  /** The hash of the prefix that ends with chunk `index`, for 0 ≤ index < {@link count}. */
  at(index: number): number {
    const hashes = this.#hashes;
    while (hashes.length <= index) {
      const parent = hashes.at(-1) ?? this.#root;
      hashes.push(chunkHash(parent, this.#tokens, hashes.length * this.chunkPositions, this.chunkPositions));
    }
    return hashes[index] as number;
  }
}
