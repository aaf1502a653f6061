/** The last tokens of a text, as many as were asked for: a ring. */
export class RecentTokens {
  readonly #ring: Int32Array;
  #count = 0;

  /** @param lengthMax tokens to remember */
  constructor(lengthMax: number) {
    this.#ring = new Int32Array(lengthMax);
  }

  /** Tokens remembered. */
  get length(): number {
    return Math.min(this.#count, this.#ring.length);
  }

  add(token: number): void {
    if (this.#ring.length > 0) this.#ring[this.#count % this.#ring.length] = token;
    this.#count++;
  }

  /** The token so many before the last one; 0 is the last, {@link length} − 1 the first that is remembered. */
  fromEnd(back: number): number {
    return this.#ring[(this.#count - 1 - back) % this.#ring.length] as number;
  }
}
