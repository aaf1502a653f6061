import { RecentTokens } from './recent-tokens.ts';

/** UTF-16 units that hold one token id in a key. */
const unitBits = 16;
const unitMask = 2 ** unitBits - 1;

/** What followed each run of tokens, kept up as a text grows: a step looks at one run, however long the text. */
export class RepeatedNgrams {
  readonly #prefixLength: number;
  readonly #recent: RecentTokens;
  readonly #followers = new Map<string, Set<number>>();
  /** The last `size` − 1 tokens; absent while there are fewer. */
  #prefix: string | undefined;

  /** @param size tokens of a run that may not come twice, at least 1 */
  constructor(size: number) {
    this.#prefixLength = size - 1;
    this.#recent = new RecentTokens(this.#prefixLength);
    this.#prefix = this.#key();
  }

  add(token: number): void {
    if (this.#prefix !== undefined) {
      const known = this.#followers.get(this.#prefix);
      if (known) known.add(token);
      else this.#followers.set(this.#prefix, new Set([token]));
    }
    this.#recent.add(token);
    this.#prefix = this.#key();
  }

  /** Calls `ban` with each token that would repeat a run. */
  forEachBanned(ban: (token: number) => void): void {
    if (this.#prefix === undefined) return;
    for (const token of this.#followers.get(this.#prefix) ?? []) ban(token);
  }

  /** The last tokens as a text of two units each: exact, short, and hashed by the map. */
  #key(): string | undefined {
    if (this.#recent.length < this.#prefixLength) return undefined;
    let key = '';
    for (let back = 0; back < this.#prefixLength; back++) {
      const token = this.#recent.fromEnd(back);
      key += String.fromCharCode(token >>> unitBits, token & unitMask);
    }
    return key;
  }
}
