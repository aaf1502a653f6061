import { assert, definite } from '../../base/errors.ts';
import type { KvCache, KvHandle, KvMatch, KvReservation, KvUsage } from './kv-cache.ts';

/**
 * The fewest positions for which a copy pays: below it, computing them again in the step that runs anyway is as cheap as two
 * strided copies a layer, and would needlessly tie prompts together.
 */
export const prefixCopyPositionsMin = 16;

/** A retained slot is taken over in place when at least this part of it matches; else it is copied and stays for others. */
const takeOverMatchRatioMin = 0.75;

/** Sizes, and the device's two operations on slots. */
export interface SlotCacheOptions {
  slots: number;
  bytesMax: number;
  bytesPerPosition: number;
  /** What finished sequences may keep for reuse; 0 gives everything back at release. */
  retainedBytesMax: number;
  /** The device's part. */
  copySlot(from: number, to: number, length: number): void;
  releaseSlot(slot: number): void;
}

interface Slot {
  state: 'free' | 'live' | 'retained';
  key: string;
  /** What the committed positions hold; capacity grows, `length` counts. */
  tokens: Int32Array;
  length: number;
  reservedPositions: number;
  lastUse: number;
  pins: number;
}

/** One contiguous KV buffer a sequence, admission by bytes, prefix reuse by copying rows between slots. */
export class SlotKvCache implements KvCache {
  readonly #options: SlotCacheOptions;
  readonly #slots: Slot[];
  #livePositions = 0;
  #retainedPositions = 0;
  #liveCount = 0;
  #retainedCount = 0;
  #uses = 0;

  constructor(options: SlotCacheOptions) {
    this.#options = options;
    this.#slots = Array.from({ length: options.slots }, () => ({
      state: 'free' as const,
      key: '',
      tokens: new Int32Array(0),
      length: 0,
      reservedPositions: 0,
      lastUse: 0,
      pins: 0,
    }));
  }

  /** Positions that fit into the cache when nothing else is in it. */
  get positionsMax(): number {
    return Math.floor(this.#options.bytesMax / this.#options.bytesPerPosition);
  }

  match(key: string, tokens: Int32Array, lengthMax: number): KvMatch | undefined {
    let best: KvMatch | undefined;
    for (const [handle, slot] of this.#slots.entries()) {
      if (slot.state === 'free' || slot.key !== key) continue;
      const length = commonPrefix(slot, tokens, Math.min(lengthMax, slot.length));
      // Of equal ones a retained slot is better: it may be taken over without a copy.
      const isBetter = length > (best?.length ?? 0) || (length === best?.length && slot.state === 'retained');
      if (length >= prefixCopyPositionsMin && isBetter) best = { handle, length };
    }
    return best;
  }

  /** The committed prefix of a sequence still in place, however short; for forks of one prompt. */
  matchHandle(handle: KvHandle, key: string, tokens: Int32Array, lengthMax: number): KvMatch | undefined {
    const slot = this.#slot(handle);
    if (slot.state === 'free' || slot.key !== key) return undefined;
    const length = commonPrefix(slot, tokens, Math.min(lengthMax, slot.length));
    return length > 0 ? { handle, length } : undefined;
  }

  canReserve(positions: number): boolean {
    const pinned = this.#pinned();
    return (
      this.#liveCount + pinned.count < this.#slots.length &&
      this.#bytes(this.#livePositions + pinned.positions + positions) <= this.#options.bytesMax
    );
  }

  reserve(key: string, positions: number, match?: KvMatch): KvReservation {
    assert(this.canReserve(positions), `no room for ${positions} positions`);
    const source = match && this.#slot(match.handle);
    const handle = this.#place(positions, match);
    const slot = this.#slot(handle);
    const cached = match?.length ?? 0;
    if (slot.state === 'retained') this.#forgetRetained(slot);
    else if (match && source) {
      this.#options.copySlot(match.handle, handle, cached);
      this.#write(slot, source.tokens.subarray(0, cached), 0);
    }
    if (source) source.lastUse = ++this.#uses;
    slot.state = 'live';
    slot.key = key;
    slot.length = cached;
    slot.reservedPositions = positions;
    slot.lastUse = ++this.#uses;
    this.#liveCount++;
    this.#livePositions += positions;
    return { handle, cached };
  }

  append(handle: KvHandle, positions: number): boolean {
    const slot = this.#live(handle);
    const more = positions - slot.reservedPositions;
    if (more <= 0) return true;
    if (!this.#evictFor(more)) return false;
    slot.reservedPositions = positions;
    this.#livePositions += more;
    return true;
  }

  commit(handle: KvHandle, tokens: Int32Array): void {
    const slot = this.#live(handle);
    const length = slot.length + tokens.length;
    assert(
      length <= slot.reservedPositions,
      `slot ${handle} wrote past its ${slot.reservedPositions} positions`,
    );
    this.#write(slot, tokens, slot.length);
    slot.length = length;
    slot.lastUse = ++this.#uses;
  }

  truncate(handle: KvHandle, length: number): void {
    const slot = this.#live(handle);
    assert(length <= slot.length, `slot ${handle} holds ${slot.length} positions, not ${length}`);
    slot.length = length;
  }

  pin(handle: KvHandle): void {
    this.#slot(handle).pins++;
  }

  unpin(handle: KvHandle): void {
    const slot = this.#slot(handle);
    assert(slot.pins > 0, `slot ${handle} is not pinned`);
    slot.pins--;
  }

  release(handle: KvHandle, retain: boolean): void {
    const slot = this.#live(handle);
    this.#liveCount--;
    this.#livePositions -= slot.reservedPositions;
    slot.reservedPositions = 0;
    const isKept =
      slot.pins > 0 ||
      (retain &&
        slot.length >= prefixCopyPositionsMin &&
        this.#bytes(slot.length) <= this.#options.retainedBytesMax);
    if (!isKept) {
      this.#free(handle, slot);
      return;
    }
    slot.state = 'retained';
    slot.lastUse = ++this.#uses;
    this.#retainedCount++;
    this.#retainedPositions += slot.length;
    while (this.#bytes(this.#retainedPositions) > this.#options.retainedBytesMax && this.#evictOldest()) {}
  }

  /** Gives all memory back that no sequence in flight holds. */
  releaseRetained(): void {
    while (this.#evictOldest()) {}
  }

  usage(): KvUsage {
    return {
      bytesReserved: this.#bytes(this.#livePositions),
      bytesRetained: this.#bytes(this.#retainedPositions),
      bytesMax: this.#options.bytesMax,
      handlesInUse: this.#liveCount,
      handlesRetained: this.#retainedCount,
    };
  }

  /** Finds the slot for a reservation and evicts what stands in its way; the match's own slot goes last, by being taken over. */
  #place(positions: number, match: KvMatch | undefined): KvHandle {
    const source = match && this.#slot(match.handle);
    const isTakeable = source?.state === 'retained' && source.pins === 0;
    if (match && source && isTakeable && match.length >= source.length * takeOverMatchRatioMin) {
      this.#fitTakeOver(positions, match.handle);
      return match.handle;
    }
    if (source) source.pins++;
    const free = this.#evictFor(positions) ? this.#freeSlot() : undefined;
    if (source) source.pins--;
    if (free !== undefined) return free;
    if (match && isTakeable) {
      this.#fitTakeOver(positions, match.handle);
      return match.handle;
    }
    // Only the pin on a retained source that may not be taken over can have stood in the way.
    assert(this.#evictFor(positions), 'no bytes after eviction');
    return definite(this.#freeSlot(), 'a slot after eviction');
  }

  /** Room for a slot that stays where it is: its retained positions are about to be counted as live. */
  #fitTakeOver(positions: number, handle: KvHandle): void {
    const slot = this.#slot(handle);
    slot.pins++;
    const fits = this.#evictFor(positions - slot.length);
    slot.pins--;
    assert(fits, 'no bytes for a slot taken over');
  }

  #freeSlot(): KvHandle | undefined {
    let handle = this.#slots.findIndex((slot) => slot.state === 'free');
    if (handle < 0 && this.#evictOldest()) handle = this.#slots.findIndex((slot) => slot.state === 'free');
    return handle < 0 ? undefined : handle;
  }

  /** Evicts retained slots, least recently used first, until `positions` more fit. */
  #evictFor(positions: number): boolean {
    const fits = () =>
      this.#bytes(this.#livePositions + this.#retainedPositions + positions) <= this.#options.bytesMax;
    while (!fits()) if (!this.#evictOldest()) return false;
    return true;
  }

  #evictOldest(): boolean {
    let oldest = -1;
    let oldestUse = Number.POSITIVE_INFINITY;
    for (const [handle, slot] of this.#slots.entries()) {
      if (slot.state !== 'retained' || slot.pins > 0 || slot.lastUse >= oldestUse) continue;
      oldest = handle;
      oldestUse = slot.lastUse;
    }
    if (oldest < 0) return false;
    const slot = this.#slot(oldest);
    this.#forgetRetained(slot);
    this.#free(oldest, slot);
    return true;
  }

  #forgetRetained(slot: Slot): void {
    this.#retainedCount--;
    this.#retainedPositions -= slot.length;
  }

  #free(handle: KvHandle, slot: Slot): void {
    slot.state = 'free';
    slot.length = 0;
    slot.tokens = new Int32Array(0);
    this.#options.releaseSlot(handle);
  }

  #pinned(): { count: number; positions: number } {
    let count = 0;
    let positions = 0;
    for (const slot of this.#slots) {
      if (slot.state !== 'retained' || slot.pins === 0) continue;
      count++;
      positions += slot.length;
    }
    return { count, positions };
  }

  #write(slot: Slot, tokens: Int32Array, at: number): void {
    const length = at + tokens.length;
    if (slot.tokens.length < length) {
      const grown = new Int32Array(Math.max(64, length, slot.tokens.length * 2));
      grown.set(slot.tokens.subarray(0, at));
      slot.tokens = grown;
    }
    slot.tokens.set(tokens, at);
  }

  #bytes(positions: number): number {
    return positions * this.#options.bytesPerPosition;
  }

  #slot(handle: KvHandle): Slot {
    return definite(this.#slots[handle], `slot ${handle}`);
  }

  #live(handle: KvHandle): Slot {
    const slot = this.#slot(handle);
    assert(slot.state === 'live', `slot ${handle} is ${slot.state}`);
    return slot;
  }
}

function commonPrefix(slot: { tokens: Int32Array }, tokens: Int32Array, lengthMax: number): number {
  let length = 0;
  while (length < lengthMax && slot.tokens[length] === tokens[length]) length++;
  return length;
}
