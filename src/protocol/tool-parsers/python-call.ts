/** A call as Python writes it, its arguments as JSON. */
export interface PythonCall {
  name: string;
  arguments: string;
  /** Characters that it took. */
  length: number;
}

/** Nesting of lists and dictionaries in arguments. */
const depthMax = 32;

/** Unit that ends no call yet: the text is a beginning. */
class Unfinished extends Error {}
class NoCall extends Error {}

/**
 * Reads `name(key=literal, …)` at the start of a text: Python's literals only, keyword arguments only.
 * @returns `undefined` where the text is no such call, `'unfinished'` where more of it may make it one
 */
export function readPythonCall(text: string): PythonCall | 'unfinished' | undefined {
  const reader = new LiteralReader(text);
  try {
    const name = reader.name();
    reader.expect('(');
    const members: string[] = [];
    while (!reader.accept(')')) {
      if (members.length > 0) {
        reader.expect(',');
        if (reader.accept(')')) break;
      }
      const key = reader.name();
      reader.expect('=');
      members.push(`${JSON.stringify(key)}: ${reader.literal(0)}`);
    }
    return { name, arguments: `{${members.join(', ')}}`, length: reader.place };
  } catch (thrown) {
    if (thrown instanceof Unfinished) return 'unfinished';
    if (thrown instanceof NoCall) return undefined;
    throw thrown;
  }
}

const words: Readonly<Record<string, string>> = {
  True: 'true',
  False: 'false',
  None: 'null',
  true: 'true',
  false: 'false',
  null: 'null',
};
const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', b: '\b', f: '\f', '0': '\0' };

/** Reads Python literals and writes them as JSON. */
class LiteralReader {
  readonly #text: string;
  place = 0;

  constructor(text: string) {
    this.#text = text;
  }

  name(): string {
    const word = this.#match(/[\p{L}_][\p{L}\p{N}_.-]*/uy);
    // A name at the end of what has arrived may go on.
    if (this.place === this.#text.length) throw new Unfinished();
    if (word === undefined) throw new NoCall();
    return word;
  }

  accept(unit: string): boolean {
    this.#match(/\s*/y);
    if (this.place >= this.#text.length) throw new Unfinished();
    if (this.#text[this.place] !== unit) return false;
    this.place++;
    return true;
  }

  expect(unit: string): void {
    if (!this.accept(unit)) throw new NoCall();
  }

  literal(depth: number): string {
    if (depth > depthMax) throw new NoCall();
    if (this.accept('[')) return `[${this.#items(']', () => this.literal(depth + 1))}]`;
    if (this.accept('(')) return `[${this.#items(')', () => this.literal(depth + 1))}]`;
    if (this.accept('{')) {
      const member = (): string => {
        const key = this.literal(depth + 1);
        this.expect(':');
        return `${key.startsWith('"') ? key : JSON.stringify(key)}: ${this.literal(depth + 1)}`;
      };
      return `{${this.#items('}', member)}}`;
    }
    const quote = this.#text[this.place];
    if (quote === '"' || quote === "'") return JSON.stringify(this.#string(quote));
    return this.#number() ?? this.#word();
  }

  #items(close: string, item: () => string): string {
    const items: string[] = [];
    while (!this.accept(close)) {
      if (items.length > 0) {
        this.expect(',');
        if (this.accept(close)) break;
      }
      items.push(item());
    }
    return items.join(', ');
  }

  #string(quote: string): string {
    let value = '';
    for (this.place++; this.place < this.#text.length; this.place++) {
      const unit = this.#text[this.place] as string;
      if (unit === quote) {
        this.place++;
        return value;
      }
      if (unit !== '\\') {
        value += unit;
        continue;
      }
      this.place++;
      const escaped = this.#text[this.place];
      if (escaped === undefined) break;
      const code = this.#match(/(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})/y);
      if (code === undefined) value += escapes[escaped] ?? escaped;
      else {
        value += String.fromCharCode(Number.parseInt(code.slice(1), 16));
        this.place--;
      }
    }
    throw new Unfinished();
  }

  #number(): string | undefined {
    // All digits to the end of what has arrived: more may follow.
    if (/^[+-]?[\d_.]*(?:[eE][+-]?\d*)?$/.test(this.#text.slice(this.place))) throw new Unfinished();
    const digits = this.#match(/[+-]?(?:\d[\d_]*)?\.?\d+(?:[eE][+-]?\d+)?|[+-]?\d+\./y);
    if (digits === undefined) return undefined;
    const value = Number(digits.replaceAll('_', ''));
    return Number.isFinite(value) ? JSON.stringify(value) : 'null';
  }

  #word(): string {
    const json = words[this.name()];
    if (json === undefined) throw new NoCall();
    return json;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.place;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.place += found.length;
    return found;
  }
}
