import type { IncrementalDecoder } from './types.ts';
import { incompleteTailLength, lenientText } from './utf8.ts';

/** What the decoder needs of a vocabulary. */
export interface TokenTexts {
  /** The token's text if its bytes are whole characters, else undefined. */
  text(id: number): string | undefined;
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
}

const noBytes = new Uint8Array(0);

/** Whole-character tokens cost a table look-up; only tokens that cut a character open touch bytes. */
export class ByteDecoder implements IncrementalDecoder {
  readonly #texts: TokenTexts;
  readonly #skipSpecial: boolean;
  #stripSpace: boolean;
  #held: Uint8Array = noBytes;

  constructor(texts: TokenTexts, options: { skipSpecialTokens: boolean; stripFirstSpace: boolean }) {
    this.#texts = texts;
    this.#skipSpecial = options.skipSpecialTokens;
    this.#stripSpace = options.stripFirstSpace;
  }

  push(id: number): string {
    if (this.#skipSpecial && this.#texts.isSpecial(id)) return '';
    if (this.#held.length === 0) {
      const text = this.#texts.text(id);
      if (text !== undefined) return this.#stripSpace ? this.#stripped(text) : text;
    }
    return this.#pushBytes(this.#texts.tokenBytes(id));
  }

  #pushBytes(added: Uint8Array): string {
    const bytes = new Uint8Array(this.#held.length + added.length);
    bytes.set(this.#held);
    bytes.set(added, this.#held.length);
    const tail = incompleteTailLength(bytes, bytes.length);
    this.#held = tail === 0 ? noBytes : bytes.slice(bytes.length - tail);
    return this.#stripped(lenientText(bytes.subarray(0, bytes.length - tail)));
  }

  #stripped(text: string): string {
    if (!this.#stripSpace || text.length === 0) return text;
    this.#stripSpace = false;
    return text.charCodeAt(0) === 0x20 ? text.slice(1) : text;
  }

  flush(): string {
    const text = this.#held.length > 0 ? lenientText(this.#held) : '';
    this.#held = noBytes;
    this.#stripSpace = false;
    return text;
  }
}
