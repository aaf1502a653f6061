import type { KvOperations } from '../../device/step.ts';
import type { Retention } from './retention.ts';

/** Tokens that can be looked at one by one, without a copy. */
export interface TokenSource {
  readonly length: number;
  tokenAt(position: number): number;
}

/**
 * One sequence's room in the cache: made by {@link KvCache.reserve}, and known only to the layout that made it. Sequences hold it from admission
 * to their end (or pause).
 */
export interface KvPlace {
  /** Positions already filled from another sequence when the place was made. */
  readonly cached: number;
}

/** What a sequence asks room for. */
export interface KvDemand {
  /** What may share a prefix: adapter and salt in one string. */
  readonly prefixKey: string;
  readonly tokens: TokenSource;
  /** Of its tokens, how many may come from others; one at least must be computed, for its logits. */
  readonly reusableMax: number;
  /** Another sequence's place that holds the same first `length` tokens: a fork of one prompt. */
  readonly fork?: { place: KvPlace; length: number } | undefined;
  /** How many of its tokens are the prompt. */
  readonly promptLength: number;
  /** What it says about keeping its KV when it has ended; nothing if absent. */
  readonly retention?: Retention | undefined;
}

/** Where the KV cache's memory is. */
export interface KvUsage {
  /** Promised to sequences in flight. */
  bytesReserved: number;
  /** Held by finished sequences for reuse; given up as soon as a reservation needs them. */
  bytesRetained: number;
  bytesMax: number;
  /** Of the host tier. */
  hostBytesUsed: number;
  hostBytesMax: number;
}

/**
 * Changes of what prompts may be found in the cache, as the hash of each chunk's whole prefix (`prefix-index.ts`). Net: what was stored and
 * removed again is in neither list.
 */
export interface KvChanges {
  stored: number[];
  removed: number[];
}

/**
 * The KV cache's interface, and what every layout means by it. Memory is counted in *units*: positions of a layout of slots, blocks of a
 * layout of blocks.
 *
 * | method | slots | blocks |
 * |---|---|---|
 * | `cost` | positions | blocks that are not shared with a sequence in flight |
 * | `reserve` | a free slot; the longest prefix that any slot has is copied | prefix by reference; a partial block is copied |
 * | `append` | room for more positions than reserved (`max_utilization`) | further blocks |
 * | `writeBlocks` | the slot | the block table; new blocks are taken here, within what was promised |
 * | `commit` | positions were written by a step and may be matched | a full block gets its hash; one that another has already is shared |
 * | `release` | free, or retain for reuse | reference counts down |
 *
 * Copies and the like are never done at once: they are collected and taken along by the next step, in order, on every rank.
 */
export interface KvCache {
  /** Positions that one sequence may have at most when nothing else is in the cache. */
  readonly positionsMax: number;
  /** Units that no sequence in flight holds or was promised; what is only retained counts as free. */
  readonly unitsFree: number;
  /** Tokens that are hashed together. */
  readonly chunkPositions: number;
  /** Units that reserving `positions` would take now. */
  cost(demand: KvDemand, positions: number): number;
  /** Units that {@link append} to `positions` would take. */
  growth(place: KvPlace, positions: number): number;
  /** Units that releasing a place would free, at least. */
  held(place: KvPlace): number;
  /** Takes room for `positions`. The caller asked {@link cost} first. */
  reserve(demand: KvDemand, positions: number): KvPlace;
  /** Makes the reservation at least `positions` long; false (and no change) if the units are not there. */
  append(place: KvPlace, positions: number): boolean;
  /** Writes the blocks of positions [0, kvLength) to `blocks` from `at` on. @returns how many */
  writeBlocks(place: KvPlace, kvLength: number, blocks: Int32Array, at: number): number;
  /** Positions up to `length` were written with these tokens. */
  commit(place: KvPlace, tokens: TokenSource, length: number): void;
  /** Ends the reservation. `retain` keeps the committed positions for reuse until their memory is needed. */
  release(place: KvPlace, tokens: TokenSource, retain: boolean): void;
  /** Gives all memory back that no sequence in flight holds. */
  releaseRetained(): void;
  /** What must be done before the next step; the caller does it. */
  takeOperations(): KvOperations;
  readonly hasOperations: boolean;
  /** What was stored and removed since the last call; undefined for nothing. */
  takeChanges(): KvChanges | undefined;
  /** All that may be found now, as in {@link KvChanges}. */
  readonly knownPrefixes: Iterable<number>;
  usage(): KvUsage;
}
