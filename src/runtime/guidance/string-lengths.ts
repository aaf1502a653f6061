import { bytesOfByteLevelToken } from '../../tokenizer/byte-alphabet.ts';

/** Tokens of more characters never come where lengths are counted here, so that a bound of at least as many holds when it is first looked at. */
export const tokenLengthMax = 31;
/** Different bounds in one grammar, and the largest one; no text is so long. */
export const boundsMax = 16;
export const boundMax = 999_999;

/** In a grammar, inside of a bounded string: never written (a control character stands in no JSON), but whoever asks whether it may come knows where he is. */
export function lengthMark(bound: number): string {
  return `"\\u0001${bound}\\u0001"`;
}

/** The bounds that a grammar has marks for, be it EBNF or the JSON of a structural tag. */
export function boundsOf(source: string): number[] {
  const marks = source.matchAll(/u0001(\d{1,6})\\{1,4}u0001/g);
  return [...new Set([...marks].map(([, bound]) => Number(bound)))];
}

const markByte = 0x01;
const quote = 0x22;
const backslash = 0x5c;
const letterU = 0x75;

/** Where in a JSON string a text stands. Outside of strings it means nothing, but the next quote puts it right. */
interface Place {
  /** Characters since the last quote that ended or began a string. */
  count: number;
  /** What an escape still lacks: 5 its letter, 4 to 1 hexadecimal digits; 0 no escape. */
  lacking: number;
  /** Bytes that its last character still lacks. */
  continuation: number;
  /** The bound of the string that it is in; Infinity for none that is known. */
  bound: number;
}

const start: Place = { count: 0, lacking: 0, continuation: 0, bound: Number.POSITIVE_INFINITY };

function isWhole({ lacking, continuation }: Place): boolean {
  return lacking === 0 && continuation === 0;
}

/** The place behind some bytes more. */
function after(place: Place, bytes: Uint8Array): Place {
  let { count, lacking, continuation, bound } = place;
  for (const byte of bytes) {
    if (byte >= 0x80) {
      if (byte < 0xc0) continuation--;
      else {
        count++;
        continuation = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
      }
    } else if (lacking === 5) lacking = byte === letterU ? 4 : 0;
    else if (lacking > 0) lacking--;
    else if (byte === quote) {
      count = 0;
      bound = Number.POSITIVE_INFINITY;
    } else {
      count++;
      if (byte === backslash) lacking = 5;
    }
  }
  return { count, lacking, continuation: Math.max(0, continuation), bound };
}

/** How many characters of a string the tokens of a vocabulary write. */
export class TokenLengths {
  /** By id: characters up to the first quote that ends a string, or all; {@link tokenLengthMax} + 1 for more. */
  readonly lengths: Uint8Array;
  /** The bits of all tokens that may come where lengths are counted. */
  readonly allowed: Uint32Array;
  readonly #texts: readonly string[];

  /** @param texts by id, in the byte-level alphabet */
  constructor(texts: readonly string[]) {
    this.#texts = texts;
    this.lengths = new Uint8Array(texts.length);
    this.allowed = new Uint32Array(Math.ceil(texts.length / 32)).fill(0xffffffff);
    for (let token = 0; token < texts.length; token++) {
      const bytes = this.bytesOf(token);
      const whole = bytes.reduce((sum, byte) => sum + ((byte & 0xc0) === 0x80 ? 0 : 1), 0);
      this.lengths[token] = Math.min(lengthOf(bytes, start), tokenLengthMax + 1);
      if (whole <= tokenLengthMax && !bytes.includes(markByte)) continue;
      const word = token >> 5;
      this.allowed[word] = (this.allowed[word] as number) & ~(1 << (token & 31));
    }
  }

  bytesOf(token: number): Uint8Array {
    return bytesOfByteLevelToken(this.#texts[token] ?? '') ?? new Uint8Array(0);
  }
}

/** Characters that bytes begin behind a place, up to a quote that ends the string. */
function lengthOf(bytes: Uint8Array, place: Place): number {
  let at: Place = { ...place, count: 0 };
  for (let index = 0; index < bytes.length; index++) {
    if (bytes[index] === quote && at.lacking === 0) break;
    at = after(at, bytes.subarray(index, index + 1));
  }
  return at.count;
}

/**
 * Keeps strings within bounds that a grammar leaves open, since counting hundreds of characters in a grammar costs seconds of compiling, or half a
 * second a mask. Follows the text's strings; whether it is inside of a bounded one the matcher says, by whether it would take the mark.
 */
export class StringLengths {
  readonly #tokens: TokenLengths;
  readonly #bounds: readonly number[];
  readonly #takes: (mark: string) => boolean;
  /** The place behind each token, the last {@link placesKept} of them. */
  #places: Place[] = [start];

  /** @param takes whether the matcher would take a text where it stands */
  constructor(tokens: TokenLengths, bounds: readonly number[], takes: (mark: string) => boolean) {
    this.#tokens = tokens;
    this.#bounds = bounds;
    this.#takes = takes;
  }

  /** The matcher took one more token. */
  accept(token: number): void {
    const place = after(this.#place, this.#tokens.bytesOf(token));
    if (place.bound === Number.POSITIVE_INFINITY && isWhole(place)) {
      for (const bound of this.#bounds) {
        if (bound < place.bound && this.#takes(`\u0001${bound}\u0001`)) place.bound = bound;
      }
    }
    this.#places.push(place);
    if (this.#places.length > 2 * placesKept) this.#places = this.#places.slice(-placesKept);
  }

  /** The matcher took tokens back, of the last {@link placesKept}. */
  rollBack(count: number): void {
    this.#places.length -= count;
  }

  /** Leaves out of a mask what would make a string too long. */
  restrict(mask: Int32Array): void {
    const { allowed, lengths } = this.#tokens;
    for (let word = 0; word < allowed.length; word++) {
      mask[word] = (mask[word] as number) & (allowed[word] as number);
    }
    const place = this.#place;
    // What an unfinished escape lacks counts as characters in the table.
    const left = place.bound - place.count + (place.lacking === 5 ? 1 : place.lacking);
    if (left >= tokenLengthMax) return;
    const isEscaping = place.lacking === 5;
    for (let word = 0; word < allowed.length; word++) {
      let bits = mask[word] as number;
      for (; bits !== 0; bits &= bits - 1) {
        const bit = bits & -bits;
        const token = word * 32 + (31 - Math.clz32(bit));
        const length = isEscaping ? lengthOf(this.#tokens.bytesOf(token), place) + 1 : lengths[token];
        if ((length as number) > left) mask[word] = (mask[word] as number) & ~bit;
      }
    }
  }

  get #place(): Place {
    return this.#places.at(-1) ?? start;
  }
}

/** Tokens that may be taken back. */
const placesKept = 64;
