/** A token matched in the text as a whole, before any merging. */
export interface AddedToken {
  id: number;
  content: string;
  /** Control token: left out of decoded text, and only matched where the caller allows it. */
  special: boolean;
  /** Matched in the normalized text, by its own normalized spelling. */
  normalized: boolean;
  /** Swallows white space before / after it. */
  lstrip: boolean;
  rstrip: boolean;
  /** Only between non-word characters. */
  singleWord: boolean;
}

interface Node {
  children: Map<number, Node>;
  token?: AddedToken;
}

const wordCharacter = /[\p{L}\p{N}_]/u;
const whiteSpace = /\s/;

/** Cuts texts at added tokens: leftmost, then longest. Linear in the text times the longest token. */
export class AddedTokenSplitter {
  readonly #root: Node = { children: new Map() };

  /** @param tokens with the spelling to look for */
  constructor(tokens: Iterable<readonly [spelling: string, token: AddedToken]>) {
    for (const [spelling, token] of tokens) {
      if (spelling.length === 0) continue;
      let node = this.#root;
      for (let i = 0; i < spelling.length; i++) {
        const code = spelling.charCodeAt(i);
        let child = node.children.get(code);
        if (!child) {
          child = { children: new Map() };
          node.children.set(code, child);
        }
        node = child;
      }
      node.token ??= token;
    }
  }

  /** The text's pieces in order: stretches of text (never empty) and tokens. */
  split(text: string): (string | AddedToken)[] {
    if (this.#root.children.size === 0) return text.length > 0 ? [text] : [];
    const pieces: (string | AddedToken)[] = [];
    let start = 0;
    let at = 0;
    while (at < text.length) {
      const found = this.#longestAt(text, at);
      if (!found) {
        at++;
        continue;
      }
      let before = at;
      let after = found.end;
      if (found.token.lstrip) while (before > start && whiteSpace.test(text[before - 1] ?? '')) before--;
      if (found.token.rstrip) while (after < text.length && whiteSpace.test(text[after] ?? '')) after++;
      if (before > start) pieces.push(text.slice(start, before));
      pieces.push(found.token);
      start = after;
      at = after;
    }
    if (start < text.length) pieces.push(text.slice(start));
    return pieces;
  }

  #longestAt(text: string, at: number): { token: AddedToken; end: number } | undefined {
    let node = this.#root.children.get(text.charCodeAt(at));
    let found: { token: AddedToken; end: number } | undefined;
    for (let i = at + 1; node; i++) {
      if (node.token && this.#stands(node.token, text, at, i)) found = { token: node.token, end: i };
      node = i < text.length ? node.children.get(text.charCodeAt(i)) : undefined;
    }
    return found;
  }

  #stands(token: AddedToken, text: string, start: number, end: number): boolean {
    if (!token.singleWord) return true;
    return !wordCharacter.test(text[start - 1] ?? '') && !wordCharacter.test(text[end] ?? '');
  }
}
