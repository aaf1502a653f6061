import { assert, definite } from '../../base/errors.ts';
import type { KvOperations } from '../../device/step.ts';
import type { KvCache, KvChanges, KvDemand, KvPlace, KvUsage, TokenSource } from './kv-cache.ts';
import { OperationList } from './operation-list.ts';
import { PrefixIndex, type PrefixNode } from './prefix-index.ts';
import { RetainedList } from './retained-list.ts';
import { highestRetention } from './retention.ts';

/**
 * The fewest positions for which a copy pays, and the chunk that prefixes are found by: below it, computing them again in the step that runs
 * anyway is as cheap as two strided copies a layer, and would needlessly tie prompts together.
 */
export const prefixCopyPositionsMin = 16;

/** A retained slot is taken over in place when at least this part of it matches; else it is copied and stays for others. */
const takeOverMatchRatioMin = 0.75;

/** Slots with the same chunk that are looked at for one that can be taken over. */
const holdersLookedAtMax = 8;

/** Sizes of the cache. */
export interface SlotCacheOptions {
  slots: number;
  /** Positions that all slots together may have. */
  positionsMax: number;
  bytesPerPosition: number;
  prefixReuse: boolean;
  /** What finished sequences may keep for reuse; 0 gives everything back at release. */
  retainedPositionsMax: number;
  nowMs: () => number;
}

/** A chunk of tokens, and the slots that hold it behind the same prefix. */
type Node = PrefixNode<Set<Slot>>;

/** One sequence's buffer. */
class Slot implements KvPlace {
  readonly number: number;
  state: 'free' | 'live' | 'retained' = 'free';
  cached = 0;
  prefixKey = '';
  /** Full chunks that it holds, in order. */
  readonly nodes: Node[] = [];
  /** The chunk begun at the end, of a retained slot. */
  tail: Node | undefined;
  committed = 0;
  reservedPositions = 0;
  demand: KvDemand | undefined;
  /** Another text has the same hash as one of its chunks: what follows cannot be found. */
  isIndexable = true;

  constructor(number: number) {
    this.number = number;
  }
}

interface Match {
  slot: Slot;
  length: number;
}

/** One contiguous KV buffer a sequence, admission by positions, prefix reuse by copying rows between slots. */
export class SlotKvCache implements KvCache {
  readonly chunkPositions = prefixCopyPositionsMin;
  readonly #options: SlotCacheOptions;
  readonly #slots: Slot[];
  readonly #free: Slot[];
  readonly #retained: RetainedList;
  readonly #index = new PrefixIndex<Set<Slot>>(prefixCopyPositionsMin);
  readonly #operations = new OperationList();
  #livePositions = 0;
  #retainedPositions = 0;

  constructor(options: SlotCacheOptions) {
    this.#options = options;
    this.#slots = Array.from({ length: options.slots }, (_, number) => new Slot(number));
    this.#free = this.#slots.toReversed();
    this.#retained = new RetainedList(options.slots, options.nowMs);
  }

  get positionsMax(): number {
    return this.#options.positionsMax;
  }

  get unitsFree(): number {
    const isFull = this.#free.length === 0 && this.#retained.size === 0;
    return isFull ? 0 : this.#options.positionsMax - this.#livePositions;
  }

  get hasOperations(): boolean {
    return !this.#operations.isEmpty;
  }

  takeOperations(): KvOperations {
    return this.#operations.take();
  }

  takeChanges(): KvChanges | undefined {
    return this.#index.takeChanges();
  }

  get knownPrefixes(): Iterable<number> {
    return this.#index.hashes;
  }

  cost(_demand: KvDemand, positions: number): number {
    return positions;
  }

  growth(place: KvPlace, positions: number): number {
    return Math.max(0, positions - (place as Slot).reservedPositions);
  }

  held(place: KvPlace): number {
    return (place as Slot).reservedPositions;
  }

  reserve(demand: KvDemand, positions: number): KvPlace {
    assert(positions <= this.unitsFree, `no room for ${positions} positions`);
    const match = demand.fork
      ? { slot: demand.fork.place as Slot, length: demand.fork.length }
      : this.#find(demand);
    const slot = this.#place(positions, match);
    const cached = match?.length ?? 0;
    if (match && slot !== match.slot) {
      this.#operations.copy(match.slot.number, slot.number, cached);
      const chunks = Math.floor(cached / prefixCopyPositionsMin);
      for (const node of match.slot.nodes.slice(0, chunks)) this.#holdNode(slot, node);
    }
    slot.state = 'live';
    slot.isIndexable = this.#options.prefixReuse;
    slot.prefixKey = demand.prefixKey;
    slot.demand = demand;
    slot.cached = cached;
    slot.committed = cached;
    slot.reservedPositions = positions;
    this.#livePositions += positions;
    return slot;
  }

  append(place: KvPlace, positions: number): boolean {
    const slot = place as Slot;
    const more = this.growth(slot, positions);
    if (more === 0) return true;
    if (!this.#evictFor(more)) return false;
    slot.reservedPositions = positions;
    this.#livePositions += more;
    return true;
  }

  writeBlocks(place: KvPlace, kvLength: number, blocks: Int32Array, at: number): number {
    const slot = place as Slot;
    assert(kvLength <= slot.reservedPositions, `slot ${slot.number} has ${slot.reservedPositions} positions`);
    blocks[at] = slot.number;
    return 1;
  }

  commit(place: KvPlace, tokens: TokenSource, length: number): void {
    const slot = place as Slot;
    assert(slot.state === 'live' && length <= slot.reservedPositions, 'a live slot writes inside its room');
    slot.committed = length;
    while (slot.isIndexable && (slot.nodes.length + 1) * prefixCopyPositionsMin <= length) {
      const parent = slot.nodes.at(-1) ?? this.#index.root(slot.prefixKey);
      const from = slot.nodes.length * prefixCopyPositionsMin;
      const node =
        this.#index.find(parent, tokens, from) ?? this.#index.add(parent, tokens, from, new Set<Slot>());
      if (node) this.#holdNode(slot, node);
      else slot.isIndexable = false;
    }
  }

  release(place: KvPlace, tokens: TokenSource, retain: boolean): void {
    const slot = place as Slot;
    assert(slot.state === 'live', `slot ${slot.number} is ${slot.state}`);
    this.#livePositions -= slot.reservedPositions;
    slot.reservedPositions = 0;
    const { retainedPositionsMax } = this.#options;
    const isKept =
      retain && slot.committed >= prefixCopyPositionsMin && slot.committed <= retainedPositionsMax;
    if (!isKept) {
      this.#setFree(slot);
      return;
    }
    this.#addTail(slot, tokens);
    slot.state = 'retained';
    this.#retained.add(slot.number);
    const { retention, promptLength = 0 } = slot.demand ?? {};
    const level = retention && highestRetention(retention, slot.committed, promptLength);
    if (level) this.#retained.setLevel(slot.number, level);
    this.#retainedPositions += slot.committed;
    while (this.#retainedPositions > retainedPositionsMax) this.#evictOldest();
  }

  releaseRetained(): void {
    while (this.#evictOldest()) {}
  }

  usage(): KvUsage {
    const { bytesPerPosition, positionsMax } = this.#options;
    return {
      bytesReserved: this.#livePositions * bytesPerPosition,
      bytesRetained: this.#retainedPositions * bytesPerPosition,
      bytesMax: positionsMax * bytesPerPosition,
      hostBytesUsed: 0,
      hostBytesMax: 0,
    };
  }

  /** The longest prefix that any slot has, live or retained, as far as full chunks and the beginning of one more go. */
  #find({ prefixKey, tokens, reusableMax }: KvDemand): Match | undefined {
    if (!this.#options.prefixReuse) return undefined;
    let parent = this.#index.root(prefixKey);
    let length = 0;
    for (; length + prefixCopyPositionsMin <= reusableMax; length += prefixCopyPositionsMin) {
      const node = this.#index.find(parent, tokens, length);
      if (!node) break;
      parent = node;
    }
    const lengthMax = Math.min(prefixCopyPositionsMin, reusableMax - length);
    const partial = this.#index.longestPartial(parent, tokens, length, lengthMax);
    if (length + (partial?.length ?? 0) < prefixCopyPositionsMin) return undefined;
    const holders = (partial?.node ?? parent).holder;
    return { slot: best(holders), length: length + (partial?.length ?? 0) };
  }

  /** Finds the slot for a reservation and evicts what stands in its way; the match's own slot goes last, by being taken over. */
  #place(positions: number, match: Match | undefined): Slot {
    if (match?.slot.state !== 'retained') return this.#freeSlotFor(positions);
    const { slot, length } = match;
    this.#retained.remove(slot.number);
    if (length < slot.committed * takeOverMatchRatioMin) {
      const canStay = this.#evictFor(positions) && (this.#free.length > 0 || this.#evictOldest());
      if (canStay) {
        this.#retained.add(slot.number);
        return definite(this.#free.pop(), 'a free slot');
      }
    }
    this.#retainedPositions -= slot.committed;
    this.#cut(slot, length);
    assert(this.#evictFor(positions), 'no positions for a slot taken over');
    return slot;
  }

  #freeSlotFor(positions: number): Slot {
    assert(this.#evictFor(positions), 'no positions after eviction');
    if (this.#free.length === 0) this.#evictOldest();
    return definite(this.#free.pop(), 'a slot after eviction');
  }

  /** Evicts retained slots, least recently used first, until `positions` more fit. */
  #evictFor(positions: number): boolean {
    const { positionsMax } = this.#options;
    while (this.#livePositions + this.#retainedPositions + positions > positionsMax) {
      if (!this.#evictOldest()) return false;
    }
    return true;
  }

  #evictOldest(): boolean {
    const oldest = this.#slots[this.#retained.next];
    if (!oldest) return false;
    this.#retained.remove(oldest.number);
    this.#retainedPositions -= oldest.committed;
    this.#setFree(oldest);
    return true;
  }

  #setFree(slot: Slot): void {
    this.#cut(slot, 0);
    this.#retained.clearLevel(slot.number);
    slot.state = 'free';
    slot.demand = undefined;
    this.#free.push(slot);
    this.#operations.release(slot.number);
  }

  /** Forgets what a slot holds from position `length` on. */
  #cut(slot: Slot, length: number): void {
    if (slot.tail) this.#dropNode(slot, slot.tail);
    slot.tail = undefined;
    while (slot.nodes.length * prefixCopyPositionsMin > length) {
      this.#dropNode(slot, definite(slot.nodes.pop(), 'a chunk'));
    }
  }

  /** What was begun of the next chunk may serve others too. */
  #addTail(slot: Slot, tokens: TokenSource): void {
    const from = slot.nodes.length * prefixCopyPositionsMin;
    const count = slot.committed - from;
    if (!slot.isIndexable || count === 0 || count >= prefixCopyPositionsMin) return;
    const parent = slot.nodes.at(-1) ?? this.#index.root(slot.prefixKey);
    slot.tail = this.#index.addPartial(parent, tokens, from, count, new Set([slot]));
  }

  #holdNode(slot: Slot, node: Node): void {
    node.holder.add(slot);
    slot.nodes.push(node);
  }

  #dropNode(slot: Slot, node: Node): void {
    node.holder.delete(slot);
    if (node.holder.size === 0) this.#index.remove(node);
  }
}

/** Of slots that hold the same, a retained one is better: it may be taken over without a copy. */
function best(holders: ReadonlySet<Slot>): Slot {
  let first: Slot | undefined;
  let looked = 0;
  for (const slot of holders) {
    if (slot.state === 'retained') return slot;
    first ??= slot;
    if (++looked === holdersLookedAtMax) break;
  }
  return definite(first, 'a chunk in the index has a holder');
}
