import { assert } from '../../base/errors.ts';
import { RetainedList } from './retained-list.ts';
import type { RetentionLevel } from './retention.ts';

/**
 * A number of equal blocks: free, held by one or more sequences (counted), or retained, held by none but kept for reuse until its memory is
 * needed. Every operation costs the same however many blocks there are.
 */
export class BlockPool {
  readonly size: number;
  readonly #references: Int32Array;
  readonly #free: Int32Array;
  #freeCount: number;
  readonly #retained: RetainedList;

  constructor(size: number, nowMs: () => number) {
    this.size = size;
    this.#references = new Int32Array(size);
    this.#retained = new RetainedList(size, nowMs);
    this.#freeCount = size;
    // Popped from the end: low numbers first.
    this.#free = Int32Array.from({ length: size }, (_, index) => size - 1 - index);
  }

  /** Blocks that somebody holds. */
  get heldCount(): number {
    return this.size - this.#freeCount - this.#retained.size;
  }

  get retainedCount(): number {
    return this.#retained.size;
  }

  references(block: number): number {
    return this.#references[block] as number;
  }

  /** A free block with one reference; −1 when there is none: evict first. */
  take(): number {
    if (this.#freeCount === 0) return -1;
    const block = this.#free[--this.#freeCount] as number;
    this.#references[block] = 1;
    return block;
  }

  /** One holder more of a block that is held or retained. */
  hold(block: number): void {
    if (this.#references[block] === 0) {
      const isRetained = this.#retained.remove(block);
      assert(isRetained, `block ${block} is free and cannot be held`);
    }
    this.#references[block] = (this.#references[block] as number) + 1;
  }

  /** One holder fewer, who may say how dear the block is. The last one's block is retained if it is to be kept, or free. */
  drop(block: number, isKept: boolean, level?: RetentionLevel): void {
    const references = (this.#references[block] as number) - 1;
    assert(references >= 0, `block ${block} has holders to drop`);
    this.#references[block] = references;
    if (level) this.#retained.setLevel(block, level);
    if (references > 0) return;
    if (isKept) this.#retained.add(block);
    else this.#setFree(block);
  }

  /** The retained block to give up next; −1 for none. */
  get evictable(): number {
    return this.#retained.next;
  }

  /** Makes a retained block free. */
  evict(block: number): void {
    assert(this.#retained.remove(block), `block ${block} is retained`);
    this.#setFree(block);
  }

  #setFree(block: number): void {
    this.#retained.clearLevel(block);
    this.#free[this.#freeCount++] = block;
  }
}
