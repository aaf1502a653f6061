import type { PromptHashes } from './prompt-hashes.ts';

/** Hashes that a front end remembers of one engine; what the engine knows beyond is routed as if it did not. 2^17 take some 5 MB. */
export const knownPrefixesMax = 2 ** 17;

/** Hashes of prompts on their way to one engine that are counted on. */
export const expectedPrefixesMax = 2 ** 16;

/** What an engine's KV cache learnt and forgot; with `isSnapshot` all that it knows. */
export interface PrefixChanges {
  readonly isSnapshot: boolean;
  readonly stored: ArrayLike<number>;
  readonly removed: ArrayLike<number>;
}

/** What is known of an engine that is away, or has just begun. */
export const nothingKnown: PrefixChanges = { isSnapshot: true, stored: [], removed: [] };

/** Which prompts one engine knows, as far as a front end has heard of it, and which it will know from what was sent to it. */
export class PrefixView {
  readonly #known = new Set<number>();
  /** By hash, how many requests on their way will have it stored. */
  readonly #expected = new Map<number, number>();
  readonly #knownMax: number;
  readonly #expectedMax: number;

  constructor(knownMax: number = knownPrefixesMax, expectedMax: number = expectedPrefixesMax) {
    this.#knownMax = knownMax;
    this.#expectedMax = expectedMax;
  }

  /** Hashes remembered. */
  get size(): number {
    return this.#known.size;
  }

  change({ isSnapshot, stored, removed }: PrefixChanges): void {
    if (isSnapshot) this.#known.clear();
    for (let index = 0; index < removed.length; index++) this.#known.delete(removed[index] as number);
    const room = this.#knownMax - this.#known.size;
    for (let index = 0; index < Math.min(room, stored.length); index++)
      this.#known.add(stored[index] as number);
  }

  /** How many of a prompt's first chunks the engine has, or will have from requests on their way. */
  chunksKnown(prompt: PromptHashes): number {
    let chunks = 0;
    for (; chunks < prompt.count; chunks++) {
      const hash = prompt.at(chunks);
      if (!this.#known.has(hash) && !this.#expected.has(hash)) break;
    }
    return chunks;
  }

  /**
   * A request with this prompt goes to the engine. Call {@link settle} with what this returns at its first token (the engine has told of its
   * prompt by then) or its end.
   * @returns how many chunks are counted on
   */
  expect(prompt: PromptHashes): number {
    let chunks = 0;
    for (; chunks < prompt.count && this.#expected.size < this.#expectedMax; chunks++) {
      const hash = prompt.at(chunks);
      this.#expected.set(hash, (this.#expected.get(hash) ?? 0) + 1);
    }
    return chunks;
  }

  settle(prompt: PromptHashes, chunks: number): void {
    for (let index = 0; index < chunks; index++) {
      const hash = prompt.at(index);
      const left = (this.#expected.get(hash) ?? 0) - 1;
      if (left > 0) this.#expected.set(hash, left);
      else this.#expected.delete(hash);
    }
  }
}
