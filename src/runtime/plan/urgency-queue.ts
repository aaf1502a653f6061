/** What decides who goes first. */
export interface Urgency {
  readonly priority: number;
  readonly arrival: number;
  /** Among its request's sequences. */
  readonly index: number;
}

/** Higher priority first, then earlier arrival, then the request's own order. */
export function compareUrgency(a: Urgency, b: Urgency): number {
  return b.priority - a.priority || a.arrival - b.arrival || a.index - b.index;
}

/** A queue ordered by urgency. */
export class UrgencyQueue<S extends Urgency> {
  readonly #items: S[] = [];

  get items(): readonly S[] {
    return this.#items;
  }

  add(item: S): void {
    this.#items.splice(this.#indexOf(item), 0, item);
  }

  /** Removes an item that is in it; false if it was not. */
  remove(item: S): boolean {
    const index = this.#indexOf(item);
    if (this.#items[index] !== item) return false;
    this.#items.splice(index, 1);
    return true;
  }

  /** Where the item is or belongs: the first place whose item is not more urgent. */
  #indexOf(item: S): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.#items[middle];
      if (other && compareUrgency(other, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
