import type { TokenSource } from '../kv/kv-cache.ts';
import { chunkHash, rootHash } from '../kv/prefix-hash.ts';

/**
 * Unless the engine is told otherwise, a prefix of fewer positions is computed by everybody who has it: waiting for another's costs a step at least,
 * in which these rows would have been done on the side.
 */
export const sharedPrefixPositionsMin = 128;

/** What must be known of a sequence to find out who computes its prefix. */
export interface PrefixComputer extends TokenSource {
  /** What may share a prefix: adapter and salt in one string. */
  readonly prefixKey: string;
  readonly priority: number;
  /** Positions whose KV is in the cache. */
  readonly committed: number;
  /** It waits for its place in the cache. */
  readonly isQueued: boolean;
  /** It has its place in the cache, and what it computes will be there for others. */
  readonly isComputing: boolean;
}

/** Who computes the prefix that another waits for, and up to where. */
interface Wait<S> {
  computer: S;
  length: number;
}

/**
 * Prefixes that are being computed. Of requests that come together with one new prefix (a system prompt, a document) only the first computes it; the
 * others wait until it is in the cache, and then share it.
 */
export class SharedPrefixes<S extends PrefixComputer> {
  readonly #chunkPositions: number;
  readonly #positionsMin: number;
  /** By the hash of the whole prefix up to the end of a chunk. */
  readonly #computers = new Map<number, S>();
  /** What each has under its hashes, and how far it computes. */
  readonly #computed = new Map<S, { hashes: number[]; length: number }>();
  readonly #waits = new Map<S, Wait<S>>();

  constructor(chunkPositions: number, positionsMin: number) {
    this.#chunkPositions = chunkPositions;
    this.#positionsMin = positionsMin;
  }

  /** Whether the sequence was found to wait. */
  isWaiting(sequence: S): boolean {
    return this.#waits.has(sequence);
  }

  /**
   * Whether the sequence should rather wait for what another computes. That one must be as urgent, or others could hold up both.
   * @param reusableMax of its tokens, how many may come from others
   */
  shouldWait(sequence: S, reusableMax: number): boolean {
    if (this.#computers.size === 0 || reusableMax < this.#positionsMin) return false;
    let computer: S | undefined;
    let length = 0;
    let positions = 0;
    for (const hash of this.#chunks(sequence, reusableMax)) {
      positions += this.#chunkPositions;
      const other = this.#computers.get(hash);
      if (other) {
        computer = other;
        length = positions;
      } else if (computer) break;
    }
    if (!computer || computer.priority < sequence.priority || !computer.isComputing) return false;
    if (length - computer.committed < this.#positionsMin) return false;
    this.#waits.set(sequence, { computer, length });
    return true;
  }

  /** The sequence got its place and computes what is not in the cache yet. */
  begin(sequence: S): void {
    if (sequence.length - sequence.committed < this.#positionsMin) return;
    const own: number[] = [];
    let positions = 0;
    for (const hash of this.#chunks(sequence, sequence.length)) {
      positions += this.#chunkPositions;
      if (positions <= sequence.committed || this.#computers.has(hash)) continue;
      this.#computers.set(hash, sequence);
      own.push(hash);
    }
    this.#computed.set(sequence, { hashes: own, length: sequence.length });
  }

  /** Forgets what was computed or given up meanwhile. @returns whether somebody need no longer wait */
  settle(): boolean {
    if (this.#computed.size === 0) return false;
    for (const [sequence, { hashes, length }] of this.#computed) {
      if (isPending(sequence, length)) continue;
      for (const hash of hashes) this.#computers.delete(hash);
      this.#computed.delete(sequence);
    }
    let isSomebodyFree = false;
    for (const [sequence, { computer, length }] of this.#waits) {
      if (sequence.isQueued && isPending(computer, length)) continue;
      this.#waits.delete(sequence);
      isSomebodyFree = true;
    }
    return isSomebodyFree;
  }

  /** The hash of each prefix of whole chunks. Another text may have the same: then somebody waits for nothing, and not for long. */
  *#chunks(sequence: S, length: number): Iterable<number> {
    const chunk = this.#chunkPositions;
    let hash = rootHash(sequence.prefixKey);
    for (let from = 0; from + chunk <= length; from += chunk) {
      hash = chunkHash(hash, sequence, from, chunk);
      yield hash;
    }
  }
}

/** Whether a sequence is still to compute positions below `length`. */
function isPending({ isComputing, committed }: PrefixComputer, length: number): boolean {
  return isComputing && committed < length;
}
