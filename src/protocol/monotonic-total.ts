/**
 * A counter over the engines of a model that never falls. When one of several restarts, the sum drops by its part; passed on, that
 * looks like a reset of all of them, and `rate()` would count the other engines' whole past once more.
 */
export class MonotonicTotal {
  #last = 0;
  #offset = 0;

  of(reading: number): number {
    if (reading < this.#last) this.#offset += this.#last - reading;
    this.#last = reading;
    return reading + this.#offset;
  }
}
