import { RepositoryError } from '../errors.ts';

/** One token of protobuf's text format, with its place (both from 1). */
export interface TextToken {
  kind: 'name' | 'number' | 'string' | 'symbol' | 'end';
  /** As written; for strings the decoded text. */
  text: string;
  line: number;
  column: number;
}

/** Characters of a config.pbtxt; real ones have a few thousand. */
export const configCharactersMax = 4 * 1024 * 1024;

/** An error at a place, as protobuf words it: `line:column: message`. */
export function textError(token: { line: number; column: number }, message: string): RepositoryError {
  return new RepositoryError('INVALID_ARGUMENT', `${token.line}:${token.column}: ${message}`);
}

const blank = /(?:[ \t\r\n\f\v]+|#[^\n]*)*/y;
const name = /[A-Za-z_][A-Za-z0-9_]*/y;
const number = /(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)/y;
const quoted = /"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*'/y;
const escapes = /\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))/g;

const simpleEscapes: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

/**
 * The tokens of a text in protobuf's text format: comments and white space dropped, strings decoded.
 * @throws RepositoryError INVALID_ARGUMENT with the place of a character that begins no token
 */
export function textTokens(text: string): TextToken[] {
  if (text.length > configCharactersMax) {
    throw new RepositoryError(
      'INVALID_ARGUMENT',
      `a configuration has over ${configCharactersMax} characters`,
    );
  }
  const tokens: TextToken[] = [];
  let line = 1;
  let lineStart = 0;
  let counted = 0;
  let at = 0;
  const match = (pattern: RegExp): string => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0] ?? '';
  };
  for (;;) {
    at += match(blank).length;
    for (let next = text.indexOf('\n', counted); next >= 0 && next < at; next = text.indexOf('\n', counted)) {
      line++;
      lineStart = counted = next + 1;
    }
    const place = { line, column: at - lineStart + 1 };
    if (at >= text.length) return [...tokens, { kind: 'end', text: 'end of file', ...place }];
    const token = readToken(text, at, match, place);
    tokens.push({ ...token, ...place });
    at += token.length;
  }
}

function readToken(
  text: string,
  at: number,
  match: (pattern: RegExp) => string,
  place: { line: number; column: number },
): { kind: TextToken['kind']; text: string; length: number } {
  const first = text[at] as string;
  if (first === '"' || first === "'") {
    const source = match(quoted);
    if (source === '')
      throw textError(place, 'String literals cannot cross line boundaries; close the quote.');
    return { kind: 'string', text: unescaped(source.slice(1, -1)), length: source.length };
  }
  const word = match(name);
  if (word !== '') return { kind: 'name', text: word, length: word.length };
  const digits = match(number);
  if (digits !== '') return { kind: 'number', text: digits, length: digits.length };
  return { kind: 'symbol', text: first, length: 1 };
}

/** Octal and hexadecimal escapes are bytes of UTF-8, so they are put together before decoding. */
function unescaped(source: string): string {
  if (!source.includes('\\')) return source;
  let hasBytes = false;
  const text = source.replace(escapes, (_all, octal, hex, short, long, other) => {
    if (octal !== undefined || hex !== undefined) {
      const byte = Number.parseInt(octal ?? hex, octal === undefined ? 16 : 8) & 255;
      if (byte < 128) return String.fromCharCode(byte);
      hasBytes = true;
      return String.fromCharCode(0xf700 + byte);
    }
    if (short !== undefined || long !== undefined) {
      const point = Number.parseInt(short ?? long, 16);
      return point <= 0x10ffff ? String.fromCodePoint(point) : '\ufffd';
    }
    return simpleEscapes[other] ?? other;
  });
  if (!hasBytes) return text;
  return text.replace(/[\uf780-\uf7ff]+/g, (run) =>
    Buffer.from([...run].map((character) => character.charCodeAt(0) - 0xf700)).toString('utf8'),
  );
}
