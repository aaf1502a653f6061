import { RepositoryError } from '../../repository/errors.ts';
import { jsonDepthMax, jsonFieldsMax, jsonNodesMax, jsonValuesMax } from '../limits.ts';

/**
 * JSON as tritonserver's parser (RapidJSON) takes it: integers of 64 bits stay exact, `1.0` is no integer, NaN and infinities are numbers, and a
 * broken text is refused in its words, with its offset. JSON.parse can do none of these.
 */

/** A number written with a fraction or an exponent whose value is whole: no integer for Triton. Other such numbers are plain numbers. */
export class WrittenDouble {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

/** A parsed value. Integers beyond 2^53 are bigints. */
export type Json = null | boolean | number | bigint | string | WrittenDouble | Json[] | JsonObject;

/** Members in the order of the text; of equal names the first counts. */
export type JsonObject = Map<string, Json>;

const byteOrderMark = '\ufeff';
const uint64Max = 2n ** 64n - 1n;
const int64Min = -(2n ** 63n);
// biome-ignore lint/suspicious/noControlCharactersInRegex: they end a string, as the format wants
const plainString = /[^"\\\u0000-\u001f]*/y;
const numberPattern = /-?(?:0|[1-9]\d*)/y;
const fractionPattern = /\d+/y;
const exponentPattern = /[eE][+-]?\d+/y;
const escapes: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

/**
 * @throws RepositoryError INTERNAL "failed to parse the request JSON buffer: …" (tritonserver's status), INVALID_ARGUMENT over
 *   {@link jsonDepthMax} levels, {@link jsonFieldsMax} members, {@link jsonNodesMax} arrays, objects, members and strings or {@link jsonValuesMax} values
 */
export function parseJson(bytes: Uint8Array): Json {
  return new Parser(
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'),
  ).document();
}

class Parser {
  readonly #text: string;
  #at = 0;
  #nodes = 0;
  #values = 0;
  #members = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): Json {
    if (this.#text.startsWith(byteOrderMark)) this.#at = 1;
    this.#space();
    if (this.#at >= this.#text.length) throw this.#error('The document is empty.');
    const value = this.#value(0);
    this.#space();
    // Its texts end where C's do.
    if (this.#at < this.#text.length && this.#text[this.#at] !== '\0') {
      throw this.#error('The document root must not be followed by other values.');
    }
    return value;
  }

  #value(depth: number): Json {
    if (++this.#values > jsonValuesMax) {
      const message = `the request JSON has over ${jsonValuesMax} values; send large tensors as binary data`;
      throw new RepositoryError('INVALID_ARGUMENT', message);
    }
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth + 1);
      case '[':
        return this.#array(depth + 1);
      case '"':
        this.#count();
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      case 'N':
        return this.#word('NaN', Number.NaN);
      case 'I':
        return this.#infinity(1);
      default:
        return this.#number();
    }
  }

  #object(depth: number): JsonObject {
    this.#enter(depth);
    const members: JsonObject = new Map();
    this.#at++;
    this.#space();
    if (this.#take('}')) return members;
    for (;;) {
      if (this.#text[this.#at] !== '"') throw this.#error('Missing a name for object member.');
      const name = this.#string();
      this.#space();
      if (!this.#take(':')) throw this.#error('Missing a colon after a name of object member.');
      this.#space();
      const value = this.#value(depth);
      this.#count();
      this.#countMember();
      if (!members.has(name)) members.set(name, value);
      this.#space();
      if (this.#take('}')) return members;
      if (!this.#take(',')) throw this.#error("Missing a comma or '}' after an object member.");
      this.#space();
    }
  }

  #array(depth: number): Json[] {
    this.#enter(depth);
    const elements: Json[] = [];
    this.#at++;
    this.#space();
    if (this.#take(']')) return elements;
    for (;;) {
      elements.push(this.#value(depth));
      this.#space();
      if (this.#take(',')) {
        this.#space();
        continue;
      }
      if (this.#take(']')) return elements;
      throw this.#error("Missing a comma or ']' after an array element.");
    }
  }

  #string(): string {
    const start = this.#at++;
    let value = '';
    for (;;) {
      plainString.lastIndex = this.#at;
      plainString.test(this.#text);
      const end = plainString.lastIndex;
      const part = this.#text.slice(this.#at, end);
      this.#at = end;
      const next = this.#text[end];
      if (next === '"') {
        this.#at++;
        return value + part;
      }
      if (next === undefined) {
        this.#at = start;
        throw this.#error('Missing a closing quotation mark in string.');
      }
      if (next !== '\\') throw this.#error('Invalid encoding in string.');
      value += part + this.#escape();
    }
  }

  #escape(): string {
    const start = this.#at;
    const letter = this.#text[start + 1] ?? '';
    const simple = escapes[letter];
    if (simple !== undefined) {
      this.#at += 2;
      return simple;
    }
    if (letter !== 'u') throw this.#error('Invalid escape character in string.');
    const digits = this.#text.slice(start + 2, start + 6);
    if (!/^[0-9a-fA-F]{4}$/.test(digits))
      throw this.#error('Incorrect hex digit after \\u escape in string.');
    this.#at += 6;
    const unit = Number.parseInt(digits, 16);
    if (unit < 0xd800 || unit > 0xdfff) return String.fromCharCode(unit);
    const low = /^\\u(d[c-f][0-9a-f]{2})/i.exec(this.#text.slice(this.#at, this.#at + 6));
    if (unit > 0xdbff || !low) {
      this.#at = start;
      throw this.#error('The surrogate pair in string is invalid.');
    }
    this.#at += 6;
    return String.fromCharCode(unit, Number.parseInt(low[1] as string, 16));
  }

  #number(): Json {
    const start = this.#at;
    if (this.#text.startsWith('-I', start)) return this.#infinity(-1);
    if (!this.#match(numberPattern)) throw this.#error('Invalid value.');
    let isInteger = true;
    if (this.#take('.')) {
      isInteger = false;
      if (!this.#match(fractionPattern)) throw this.#error('Miss fraction part in number.');
    }
    const letter = this.#text[this.#at];
    if (letter === 'e' || letter === 'E') {
      isInteger = false;
      if (!this.#match(exponentPattern)) {
        this.#at++;
        throw this.#error('Miss exponent in number.');
      }
    }
    const digits = this.#text.slice(start, this.#at);
    const value = Number(digits);
    if (!Number.isFinite(value)) {
      this.#at = start;
      throw this.#error('Number too big to be stored in double.');
    }
    if (!isInteger) return Number.isInteger(value) ? new WrittenDouble(value) : value;
    if (Number.isSafeInteger(value)) return value;
    const exact = BigInt(digits);
    return exact > uint64Max || exact < int64Min ? new WrittenDouble(value) : exact;
  }

  #infinity(sign: 1 | -1): number {
    if (sign < 0) this.#at++;
    if (this.#text.startsWith('Infinity', this.#at)) this.#at += 8;
    else this.#word('Inf', null);
    return sign * Number.POSITIVE_INFINITY;
  }

  #word<T extends Json>(word: string, value: T): T {
    for (const letter of word) {
      if (!this.#take(letter)) throw this.#error('Invalid value.');
    }
    return value;
  }

  #match(pattern: RegExp): boolean {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.#text)) return false;
    this.#at = pattern.lastIndex;
    return true;
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #space(): void {
    for (;;) {
      const unit = this.#text.charCodeAt(this.#at);
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return;
      this.#at++;
    }
  }

  #enter(depth: number): void {
    this.#count();
    if (depth <= jsonDepthMax) return;
    const message = `the request JSON nests deeper than ${jsonDepthMax} levels; flatten it`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }

  #count(): void {
    if (++this.#nodes <= jsonNodesMax) return;
    const message = `the request JSON has over ${jsonNodesMax} arrays, members and strings; send less in one request, or texts as binary data`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }

  #countMember(): void {
    if (++this.#members <= jsonFieldsMax) return;
    const message = `the request JSON has over ${jsonFieldsMax} members; send less in one request`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }

  #error(problem: string): RepositoryError {
    const offset = Buffer.byteLength(this.#text.slice(0, this.#at));
    return new RepositoryError(
      'INTERNAL',
      `failed to parse the request JSON buffer: ${problem} at ${offset}`,
    );
  }
}
