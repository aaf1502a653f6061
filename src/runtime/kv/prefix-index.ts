import type { KvChanges, TokenSource } from './kv-cache.ts';
import { chunkHash, rootHash } from './prefix-hash.ts';

/** A chunk of tokens behind a certain prefix, and who holds its KV. */
export interface PrefixNode<Holder> {
  /** Of the whole prefix up to the end of this chunk. */
  readonly hash: number;
  /** Undefined for the empty prefix. */
  readonly parent: PrefixNode<Holder> | undefined;
  readonly tokens: Int32Array;
  readonly children: Set<PrefixNode<Holder>>;
  holder: Holder;
}

/** Children that {@link PrefixIndex.longestPartial} looks at: the oldest, so that a popular prefix costs no more than a rare one. */
const partialCandidatesMax = 8;

/**
 * What the cache holds, as a tree of chunks of tokens that is walked by hash: finding a prompt costs O(prompt / chunk), whatever else is there.
 * A hit is compared token by token, so that no collision of hashes can mix texts.
 */
export class PrefixIndex<Holder> {
  readonly chunkPositions: number;
  readonly #nodes = new Map<number, PrefixNode<Holder>>();
  readonly #roots = new Map<string, PrefixNode<Holder | undefined>>();
  /** Changes that nobody took yet, net of each other: never more than are in the index now and were in it then. */
  readonly #stored = new Set<number>();
  readonly #removed = new Set<number>();
  #rootsMax = rootsKept;

  constructor(chunkPositions: number) {
    this.chunkPositions = chunkPositions;
  }

  /** Full chunks in it. */
  get size(): number {
    return this.#nodes.size;
  }

  /** The empty prefix of a key; to be asked for anew each time, since empty ones are forgotten. */
  root(prefixKey: string): PrefixNode<Holder> {
    let root = this.#roots.get(prefixKey);
    if (!root) {
      root = {
        hash: rootHash(prefixKey),
        parent: undefined,
        tokens: new Int32Array(0),
        children: new Set(),
        holder: undefined,
      };
      this.#dropEmptyRoots();
      this.#roots.set(prefixKey, root);
    }
    // A root's holder is never looked at: it holds no tokens.
    return root as PrefixNode<Holder>;
  }

  /** The full chunk at `tokens` [from, from + chunk) behind `parent`. */
  find(parent: PrefixNode<Holder>, tokens: TokenSource, from: number): PrefixNode<Holder> | undefined {
    const node = this.#nodes.get(chunkHash(parent.hash, tokens, from, this.chunkPositions));
    return node?.parent === parent && commonLength(node.tokens, tokens, from) === this.chunkPositions
      ? node
      : undefined;
  }

  /**
   * Adds a full chunk that {@link find} does not find.
   * @returns undefined when another text has the same hash: it cannot be stored
   */
  add(
    parent: PrefixNode<Holder>,
    tokens: TokenSource,
    from: number,
    holder: Holder,
  ): PrefixNode<Holder> | undefined {
    const hash = chunkHash(parent.hash, tokens, from, this.chunkPositions);
    if (this.#nodes.has(hash)) return undefined;
    const node = this.#attach(parent, tokens, from, this.chunkPositions, hash, holder);
    this.#nodes.set(hash, node);
    if (!this.#removed.delete(hash)) this.#stored.add(hash);
    return node;
  }

  /** Adds a chunk that is not full: found only by {@link longestPartial}. */
  addPartial(
    parent: PrefixNode<Holder>,
    tokens: TokenSource,
    from: number,
    count: number,
    holder: Holder,
  ): PrefixNode<Holder> {
    return this.#attach(parent, tokens, from, count, Number.NaN, holder);
  }

  /** The child of `parent` that begins with the most of `tokens` from `from` on, and how many (at least 1, at most `lengthMax`). */
  longestPartial(
    parent: PrefixNode<Holder>,
    tokens: TokenSource,
    from: number,
    lengthMax: number,
  ): { node: PrefixNode<Holder>; length: number } | undefined {
    let best: { node: PrefixNode<Holder>; length: number } | undefined;
    let looked = 0;
    for (const node of parent.children) {
      if (looked++ === partialCandidatesMax) break;
      const length = Math.min(lengthMax, commonLength(node.tokens, tokens, from));
      if (length > (best?.length ?? 0)) best = { node, length };
    }
    return best;
  }

  /** Takes a node without children out. */
  remove(node: PrefixNode<Holder>): void {
    node.parent?.children.delete(node);
    if (!Number.isNaN(node.hash) && this.#nodes.get(node.hash) === node) {
      this.#nodes.delete(node.hash);
      if (!this.#stored.delete(node.hash)) this.#removed.add(node.hash);
    }
  }

  /** The hash of every full chunk in it. */
  get hashes(): Iterable<number> {
    return this.#nodes.keys();
  }

  /** What changed since the last call; undefined for nothing. */
  takeChanges(): KvChanges | undefined {
    if (this.#stored.size === 0 && this.#removed.size === 0) return undefined;
    const changes = { stored: [...this.#stored], removed: [...this.#removed] };
    this.#stored.clear();
    this.#removed.clear();
    return changes;
  }

  #attach(
    parent: PrefixNode<Holder>,
    tokens: TokenSource,
    from: number,
    count: number,
    hash: number,
    holder: Holder,
  ): PrefixNode<Holder> {
    const own = new Int32Array(count);
    for (let i = 0; i < count; i++) own[i] = tokens.tokenAt(from + i);
    const node = { hash, parent, tokens: own, children: new Set<PrefixNode<Holder>>(), holder };
    parent.children.add(node);
    return node;
  }

  /** Salts come and go: a root without children is made again when it is needed. */
  #dropEmptyRoots(): void {
    if (this.#roots.size < this.#rootsMax) return;
    for (const [key, root] of this.#roots) if (root.children.size === 0) this.#roots.delete(key);
    this.#rootsMax = Math.max(rootsKept, this.#roots.size * 2);
  }
}

/** Prefix keys that are remembered though nothing is stored under them. */
const rootsKept = 1024;

function commonLength(known: Int32Array, tokens: TokenSource, from: number): number {
  const end = Math.min(known.length, tokens.length - from);
  let length = 0;
  while (length < end && known[length] === tokens.tokenAt(from + length)) length++;
  return length;
}
