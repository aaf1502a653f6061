import { byteCharacters, byteLevelText, byteTokenName } from './byte-alphabet.ts';
import { mergeSymbols } from './merge.ts';
import { type Merge, MergeTable } from './merge-table.ts';
import type { TokenList } from './token-list.ts';

/** Words remembered with their ids; when full, the memory starts over (English text has ~30,000 distinct words). */
const cachedWordsMax = 32_768;
/** Longer words are not worth remembering. UTF-16 units. */
const cachedWordLengthMax = 48;

/** What {@link BpeModel} needs of a vocabulary. */
export interface BpeOptions {
  /** Token text → id. */
  ids: ReadonlyMap<string, number>;
  merges: readonly Merge[];
  /** Words are UTF-8 bytes in GPT-2's alphabet; otherwise they are characters. */
  byteLevel: boolean;
  /** A character the vocabulary lacks becomes its bytes as `<0xNN>` tokens. */
  byteFallback: boolean;
  /** A word that is a token needs no merging. */
  ignoreMerges: boolean;
  unknownId: number | undefined;
  /** Neighbouring unknown characters become one unknown token. */
  fuseUnknown: boolean;
}

/** Byte-pair encoding of one pre-tokenized word at a time, over ids. */
export class BpeModel {
  readonly #options: BpeOptions;
  readonly #table: MergeTable;
  readonly #byteIds: Int32Array;
  readonly #fallbackIds: Int32Array;
  readonly #cache = new Map<string, Int32Array>();
  readonly #encoder = new TextEncoder();
  #symbols = new Int32Array(1024);

  constructor(options: BpeOptions) {
    this.#options = options;
    this.#table = new MergeTable(options.merges);
    const idsOf = (name: (byte: number) => string) =>
      Int32Array.from({ length: 256 }, (_, byte) => options.ids.get(name(byte)) ?? -1);
    this.#byteIds = idsOf((byte) => byteCharacters[byte] as string);
    this.#fallbackIds = idsOf(byteTokenName);
  }

  /** Appends the word's ids to `out`. */
  encodeWord(word: string, out: TokenList): void {
    const known = this.#cache.get(word);
    if (known !== undefined) {
      out.append(known);
      return;
    }
    const ids = this.#encodeUncached(word);
    if (word.length <= cachedWordLengthMax) {
      if (this.#cache.size >= cachedWordsMax) this.#cache.clear();
      this.#cache.set(word, ids.slice());
    }
    out.append(ids);
  }

  #encodeUncached(word: string): Int32Array {
    const bytes = this.#options.byteLevel ? this.#encoder.encode(word) : undefined;
    if (this.#options.ignoreMerges) {
      const whole = this.#options.ids.get(bytes ? byteLevelText(bytes) : word);
      if (whole !== undefined) return Int32Array.of(whole);
    }
    // A character without byte fallback is one symbol; with it, up to three per UTF-16 unit.
    const capacity = bytes ? bytes.length : word.length * 3;
    if (this.#symbols.length < capacity) this.#symbols = new Int32Array(capacity);
    const symbols = this.#symbols;
    const count = bytes ? this.#fillFromBytes(bytes) : this.#fillFromCharacters(word);
    const left = mergeSymbols(symbols, count, this.#table);
    const ids = symbols.slice(0, left);
    // One hostile prompt must not pin its size in memory.
    if (capacity > 65_536) this.#symbols = new Int32Array(1024);
    return ids;
  }

  #fillFromBytes(bytes: Uint8Array): number {
    let count = 0;
    for (const byte of bytes) count = this.#put(count, this.#byteIds[byte] as number);
    return count;
  }

  #fillFromCharacters(word: string): number {
    let count = 0;
    for (const character of word) {
      const id = this.#options.ids.get(character);
      if (id !== undefined) this.#symbols[count++] = id;
      else if (this.#options.byteFallback) count = this.#fallBack(character, count);
      else count = this.#put(count, -1);
    }
    return count;
  }

  #fallBack(character: string, start: number): number {
    const bytes = this.#encoder.encode(character);
    for (const byte of bytes) if ((this.#fallbackIds[byte] as number) < 0) return this.#put(start, -1);
    let count = start;
    for (const byte of bytes) this.#symbols[count++] = this.#fallbackIds[byte] as number;
    return count;
  }

  /** Puts an id, or the unknown token for −1; a vocabulary without one drops the character, as the `tokenizers` library does. */
  #put(count: number, id: number): number {
    const { unknownId, fuseUnknown } = this.#options;
    if (id < 0 && unknownId === undefined) return count;
    if (id < 0 && fuseUnknown && count > 0 && this.#symbols[count - 1] === unknownId) return count;
    this.#symbols[count] = id < 0 ? (unknownId as number) : id;
    return count + 1;
  }
}
