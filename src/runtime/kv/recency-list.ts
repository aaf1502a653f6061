import { assert } from '../../base/errors.ts';

/**
 * Which of numbered things was used least recently: a doubly linked list in two arrays, so that adding, taking out and asking for the oldest
 * cost the same however many there are.
 */
export class RecencyList {
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #head: number;
  #size = 0;

  /** @param count things are numbered 0 to count − 1 */
  constructor(count: number) {
    // The last entry is the list's head and end; −1 marks what is not in it.
    this.#head = count;
    this.#next = new Int32Array(count + 1).fill(-1);
    this.#previous = new Int32Array(count + 1).fill(-1);
    this.#next[count] = count;
    this.#previous[count] = count;
  }

  get size(): number {
    return this.#size;
  }

  has(item: number): boolean {
    return item >= 0 && item < this.#head && this.#next[item] !== -1;
  }

  /** Puts an item that is not in the list at its recent end. */
  add(item: number): void {
    assert(!this.has(item), 'an item stands in a recency list once');
    const last = this.#previous[this.#head] as number;
    this.#next[last] = item;
    this.#previous[item] = last;
    this.#next[item] = this.#head;
    this.#previous[this.#head] = item;
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

  /** The item that was added first; −1 for none. */
  get oldest(): number {
    const item = this.#next[this.#head] as number;
    return item === this.#head ? -1 : item;
  }
}
