import type { RecentTokens } from './recent-tokens.ts';

/**
 * Words that may not be said, as tokens. Of a step's work only those words are looked at whose last token but one was just said, so
 * that hundreds of them cost nothing most of the time.
 */
export class BadWords {
  /** Tokens before the last one, of the longest word. */
  readonly prefixLengthMax: number;
  /** Words of one token: never said. */
  readonly #always: number[] = [];
  /** The longer ones, by their last token but one. */
  readonly #byTail = new Map<number, (readonly number[])[]>();

  constructor(words: readonly (readonly number[])[]) {
    let longest = 1;
    for (const word of words) {
      const last = word.at(-1);
      const tail = word.at(-2);
      longest = Math.max(longest, word.length);
      if (last === undefined) continue;
      if (tail === undefined) this.#always.push(last);
      else {
        const others = this.#byTail.get(tail);
        if (others) others.push(word);
        else this.#byTail.set(tail, [word]);
      }
    }
    this.prefixLengthMax = longest - 1;
  }

  /** Calls `ban` with each token that would complete a word. @param recent the end of the output */
  forEachBanned(recent: RecentTokens, ban: (token: number) => void): void {
    for (const token of this.#always) ban(token);
    if (recent.length === 0) return;
    const words = this.#byTail.get(recent.fromEnd(0));
    for (const word of words ?? []) if (endsInPrefix(recent, word)) ban(word.at(-1) as number);
  }
}

/** Whether the tokens end in all of the word but its last token. */
function endsInPrefix(recent: RecentTokens, word: readonly number[]): boolean {
  const length = word.length - 1;
  if (length > recent.length) return false;
  for (let back = 0; back < length; back++) {
    if (recent.fromEnd(back) !== word[length - 1 - back]) return false;
  }
  return true;
}
