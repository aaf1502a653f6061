import type { AddedToken } from './added-tokens.ts';
import { TokenizerError } from './errors.ts';
import { bytesOfToken, type DecodeRule } from './token-bytes.ts';
import { validText } from './utf8.ts';

/** Most ids a vocabulary may span; the largest known have 262,144. */
export const vocabularySizeMax = 4_000_000;

const noBytes = new Uint8Array(0);

/** Token ↔ id ↔ bytes ↔ text. Bytes and texts are worked out when first asked for. */
export class Vocabulary {
  readonly ids = new Map<string, number>();
  /** Of the longest token as it is written, in UTF-16 units. */
  tokenLengthMax = 0;
  readonly #tokens: (string | undefined)[] = [];
  readonly #added = new Map<number, AddedToken>();
  readonly #rule: DecodeRule;
  readonly #special: Uint8Array;
  readonly #bytes: (Uint8Array | undefined)[];
  /** null: the bytes cut a character open. */
  readonly #texts: (string | null | undefined)[];

  /** @param idOf the model's tokens, without inherited properties. @throws TokenizerError TOKENIZER_INVALID for ids out of range */
  constructor(idOf: Readonly<Record<string, number>>, added: readonly AddedToken[], rule: DecodeRule) {
    this.#rule = rule;
    // for…in: a list of 150,000 pairs would cost a tenth of a second at every start.
    for (const token in idOf) this.#set(token, idOf[token] as number);
    for (const token of added) {
      this.#set(token.content, token.id);
      this.#added.set(token.id, token);
    }
    if (this.#tokens.length === 0)
      throw new TokenizerError('TOKENIZER_INVALID', 'tokenizer.json has no tokens; fetch it again');
    this.#special = new Uint8Array(this.size);
    for (const token of added) if (token.special) this.#special[token.id] = 1;
    this.#bytes = new Array(this.size);
    this.#texts = new Array(this.size);
  }

  get size(): number {
    return this.#tokens.length;
  }

  #set(token: string, id: number): void {
    if (!Number.isInteger(id) || id < 0 || id >= vocabularySizeMax) {
      const text = JSON.stringify(token.slice(0, 40));
      throw new TokenizerError(
        'TOKENIZER_INVALID',
        `token ${text} has id ${id}; ids are 0 to ${vocabularySizeMax - 1}`,
      );
    }
    this.ids.set(token, id);
    if (token.length > this.tokenLengthMax) this.tokenLengthMax = token.length;
    while (this.#tokens.length < id) this.#tokens.push(undefined);
    this.#tokens[id] = token;
  }

  token(id: number): string | undefined {
    return this.#tokens[id];
  }

  isSpecial(id: number): boolean {
    return this.#special[id] === 1;
  }

  /** A model's padded embedding rows have ids that no token has: they add nothing. */
  tokenBytes(id: number): Uint8Array {
    const known = this.#bytes[id];
    if (known) return known;
    if (!Number.isInteger(id) || id < 0)
      throw new TokenizerError(
        'TOKEN_ID_OUT_OF_RANGE',
        `${id} is not a token id; ids are 0 to ${this.size - 1}`,
      );
    const token = this.#tokens[id];
    if (token === undefined) return noBytes;
    // BERT's decoder puts spaces around special tokens too.
    const raw = this.#added.has(id) && this.#rule.style !== 'word-piece';
    const bytes = raw ? new TextEncoder().encode(token) : bytesOfToken(token, this.#rule);
    this.#bytes[id] = bytes;
    return bytes;
  }

  /** The token's text if its bytes are whole characters, else undefined. */
  text(id: number): string | undefined {
    const known = this.#texts[id];
    if (known !== undefined) return known ?? undefined;
    const text = validText(this.tokenBytes(id));
    if (id < this.size) this.#texts[id] = text ?? null;
    return text;
  }
}
