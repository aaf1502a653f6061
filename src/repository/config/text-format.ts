import type { RepositoryError } from '../errors.ts';
import { type TextToken, textError, textTokens } from './text-tokens.ts';

/** A scalar as written: `-1`, `TYPE_INT32`, `"text"`. */
export interface TextScalar {
  kind: 'name' | 'number' | 'string';
  text: string;
  line: number;
  column: number;
}

/** A message: its fields in order, each with the values given for it (`[a, b]` counts as two). */
export interface TextMessage {
  kind: 'message';
  fields: Map<string, TextValue[]>;
  line: number;
  column: number;
}

export type TextValue = TextScalar | TextMessage;

/** Nesting of messages in a config.pbtxt. */
export const configDepthMax = 64;

/**
 * Reads protobuf's text format without a schema, as tolerantly as protobuf does: `#` comments, `,` or `;` between fields, lists or
 * repeated blocks, `key: { }`, `key { }` and `key < >`, adjacent strings joined.
 * @throws RepositoryError INVALID_ARGUMENT `line:column: what was expected`
 */
export function parseTextFormat(text: string): TextMessage {
  const reader = new Reader(textTokens(text));
  const message = reader.message('end', 0);
  return message;
}

class Reader {
  readonly #tokens: readonly TextToken[];
  #at = 0;

  constructor(tokens: readonly TextToken[]) {
    this.#tokens = tokens;
  }

  get #token(): TextToken {
    return this.#tokens[this.#at] as TextToken;
  }

  /** Fields up to the closing symbol, which is left to the caller. */
  message(closing: string, depth: number): TextMessage {
    const { line, column } = this.#token;
    if (depth > configDepthMax) throw textError(this.#token, `messages nest deeper than ${configDepthMax}`);
    const fields = new Map<string, TextValue[]>();
    while (!this.#isAt(closing)) {
      const token = this.#token;
      if (token.kind !== 'name') throw textError(token, `Expected identifier, got: ${token.text}`);
      this.#at++;
      const values = fields.get(token.text) ?? [];
      fields.set(token.text, values);
      this.#value(values, depth);
      if (this.#isSymbol(',') || this.#isSymbol(';')) this.#at++;
    }
    return { kind: 'message', fields, line, column };
  }

  #value(into: TextValue[], depth: number): void {
    const hasColon = this.#isSymbol(':');
    if (hasColon) this.#at++;
    if (this.#isSymbol('[')) {
      this.#list(into, depth);
    } else if (this.#isSymbol('{') || this.#isSymbol('<')) {
      into.push(this.#block(depth));
    } else if (hasColon) {
      into.push(this.#scalar());
    } else {
      throw textError(this.#token, `Expected ":", found "${this.#token.text}".`);
    }
  }

  #list(into: TextValue[], depth: number): void {
    this.#at++;
    while (!this.#isSymbol(']')) {
      into.push(this.#isSymbol('{') || this.#isSymbol('<') ? this.#block(depth) : this.#scalar());
      if (this.#isSymbol(',')) this.#at++;
      else if (!this.#isSymbol(']'))
        throw textError(this.#token, `Expected "]", found "${this.#token.text}".`);
    }
    this.#at++;
  }

  #block(depth: number): TextMessage {
    const closing = this.#isSymbol('{') ? '}' : '>';
    this.#at++;
    const message = this.message(closing, depth + 1);
    this.#at++;
    return message;
  }

  #scalar(): TextScalar {
    const { line, column } = this.#token;
    let sign = '';
    if (this.#isSymbol('-')) {
      sign = '-';
      this.#at++;
    }
    const token = this.#token;
    if (token.kind === 'symbol' || token.kind === 'end') throw this.#unexpected(token);
    this.#at++;
    let text = sign + token.text;
    // Adjacent strings are one, as in C.
    while (token.kind === 'string' && this.#token.kind === 'string') {
      text += this.#token.text;
      this.#at++;
    }
    return { kind: token.kind, text, line, column };
  }

  #unexpected(token: TextToken): RepositoryError {
    const placeholder = token.text === '$' ? this.#placeholder() : '';
    return textError(token, `Expected a value, got: ${token.text}${placeholder}`);
  }

  #placeholder(): string {
    const next = this.#tokens.slice(this.#at + 1, this.#at + 4).find((token) => token.kind === 'name');
    return next ? ` (the placeholder \${${next.text}} was not filled; fill it with nereid repo fill)` : '';
  }

  #isAt(closing: string): boolean {
    if (this.#token.kind === 'end') {
      if (closing === 'end') return true;
      throw textError(this.#token, `Expected "${closing}", found the end of the file.`);
    }
    return closing !== 'end' && this.#isSymbol(closing);
  }

  #isSymbol(symbol: string): boolean {
    return this.#token.kind === 'symbol' && this.#token.text === symbol;
  }
}
