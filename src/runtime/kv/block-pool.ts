import { assert, definite } from '../../base/errors.ts';
import { RecencyList } from './recency-list.ts';

/**
 * A number of equal blocks: free, held by one or more sequences (counted), or retained, held by none but kept for reuse until its memory is
 * needed. Every operation costs the same however many blocks there are.
 */
export class BlockPool {
  readonly size: number;
  readonly #references: Int32Array;
  readonly #free: Int32Array;
  #freeCount: number;
  /** Retained blocks by priority, lowest priority first. */
  readonly #retained = new Map<number, RecencyList>();
  #priorities: number[] = [];
  readonly #priorityOf: Uint8Array;
  #retainedCount = 0;

  constructor(size: number) {
    this.size = size;
    this.#references = new Int32Array(size);
    this.#priorityOf = new Uint8Array(size);
    this.#freeCount = size;
    // Popped from the end: low numbers first.
    this.#free = Int32Array.from({ length: size }, (_, index) => size - 1 - index);
  }

  /** Blocks that somebody holds. */
  get heldCount(): number {
    return this.size - this.#freeCount - this.#retainedCount;
  }

  get retainedCount(): number {
    return this.#retainedCount;
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
      const isRetained = this.#listOf(block).remove(block);
      assert(isRetained, `block ${block} is free and cannot be held`);
      this.#retainedCount--;
    }
    this.#references[block] = (this.#references[block] as number) + 1;
  }

  /** One holder fewer. The last one's block is retained at `priority`, or free without one. */
  drop(block: number, priority: number | undefined): void {
    const references = (this.#references[block] as number) - 1;
    assert(references >= 0, `block ${block} has holders to drop`);
    this.#references[block] = references;
    if (references > 0) return;
    if (priority === undefined) this.#setFree(block);
    else {
      this.#priorityOf[block] = priority;
      this.#listOf(block).add(block);
      this.#retainedCount++;
    }
  }

  /** The retained block to give up next: of the lowest priority the least recently used; −1 for none. */
  get evictable(): number {
    for (const priority of this.#priorities) {
      const oldest = definite(this.#retained.get(priority), 'a list').oldest;
      if (oldest >= 0) return oldest;
    }
    return -1;
  }

  /** Makes a retained block free. */
  evict(block: number): void {
    assert(this.#listOf(block).remove(block), `block ${block} is retained`);
    this.#retainedCount--;
    this.#setFree(block);
  }

  #setFree(block: number): void {
    this.#free[this.#freeCount++] = block;
  }

  #listOf(block: number): RecencyList {
    const priority = this.#priorityOf[block] as number;
    let list = this.#retained.get(priority);
    if (!list) {
      list = new RecencyList(this.size);
      this.#retained.set(priority, list);
      this.#priorities = [...this.#retained.keys()].sort((a, b) => a - b);
    }
    return list;
  }
}
