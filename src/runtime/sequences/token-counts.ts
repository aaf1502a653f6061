/** How often each token stands in a sequence's output, kept up as it grows, so that a row's penalties never look at the whole history. */
export class TokenCounts {
  /** Distinct tokens of prompt and output, in order of first appearance. */
  tokens = new Int32Array(64);
  /** By the same index: occurrences in the output; 0 for one that is only in the prompt. */
  counts = new Int32Array(64);
  size = 0;
  readonly #places = new Map<number, number>();

  constructor(prompt: Int32Array) {
    for (const token of prompt) this.#place(token);
  }

  add(token: number): void {
    const place = this.#place(token);
    this.counts[place] = (this.counts[place] as number) + 1;
  }

  #place(token: number): number {
    const known = this.#places.get(token);
    if (known !== undefined) return known;
    if (this.size === this.tokens.length) this.#grow();
    const place = this.size++;
    this.tokens[place] = token;
    this.#places.set(token, place);
    return place;
  }

  #grow(): void {
    const tokens = new Int32Array(this.size * 2);
    const counts = new Int32Array(this.size * 2);
    tokens.set(this.tokens);
    counts.set(this.counts);
    this.tokens = tokens;
    this.counts = counts;
  }
}
