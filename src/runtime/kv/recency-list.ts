import { assert } from '../../base/errors.ts';

/**
 * Which of numbered things was used least recently, level by level: doubly linked lists in two arrays, so that adding, taking out and asking for
 * the oldest cost the same however many things there are.
 */
export class RecencyList {
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #count: number;
  readonly #levels: number;
  #size = 0;

  /**
   * @param count things are numbered 0 to count − 1
   * @param levels numbered 0 to levels − 1; the oldest of the lowest level is the list's oldest
   */
  constructor(count: number, levels = 1) {
    this.#count = count;
    this.#levels = levels;
    // Behind the things come the lists' heads, which are their ends, too; −1 marks what is in no list.
    this.#next = new Int32Array(count + levels).fill(-1);
    this.#previous = new Int32Array(count + levels).fill(-1);
    for (let head = count; head < count + levels; head++) {
      this.#next[head] = head;
      this.#previous[head] = head;
    }
  }

  get size(): number {
    return this.#size;
  }

  has(item: number): boolean {
    return item >= 0 && item < this.#count && this.#next[item] !== -1;
  }

  /** Puts an item that is in no list at the recent end of its level's. */
  add(item: number, level = 0): void {
    assert(!this.has(item), 'an item stands in a recency list once');
    const head = this.#count + level;
    const last = this.#previous[head] as number;
    this.#next[last] = item;
    this.#previous[item] = last;
    this.#next[item] = head;
    this.#previous[head] = item;
    this.#size++;
  }

  /** Takes an item out; false if it is not there. */
  remove(item: number): boolean {
    if (!this.has(item)) return false;
    const next = this.#next[item] as number;
    const previous = this.#previous[item] as number;
    this.#next[previous] = next;
    this.#previous[next] = previous;
    this.#next[item] = -1;
    this.#previous[item] = -1;
    this.#size--;
    return true;
  }

  /** Of the lowest level that has any, the item that was added first; −1 for none. */
  get oldest(): number {
    if (this.#size === 0) return -1;
    for (let head = this.#count; head < this.#count + this.#levels; head++) {
      const item = this.#next[head] as number;
      if (item !== head) return item;
    }
    return -1;
  }
}
