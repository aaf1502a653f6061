import {
  type CodeRange,
  codePointMax,
  grammarInvalid,
  invertedRanges,
  joinedRanges,
} from './grammar-text.ts';

/** A regular expression, read. */
export type RegexNode =
  | { kind: 'class'; ranges: readonly CodeRange[] }
  | { kind: 'sequence'; parts: readonly RegexNode[] }
  | { kind: 'choice'; parts: readonly RegexNode[] }
  | { kind: 'repeat'; part: RegexNode; min: number; max: number };

/** UTF-16 units of a regex. */
export const regexLengthMax = 16_384;
/** Groups in groups. */
const depthMax = 64;
/** A count of repetition, and what counts within counts may come to. */
export const repetitionMax = 100_000;

const digits: readonly CodeRange[] = [[0x30, 0x39]];
const words: readonly CodeRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
const spaces: readonly CodeRange[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const lineEnds: readonly CodeRange[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const classes: Readonly<Record<string, readonly CodeRange[]>> = {
  d: digits,
  D: invertedRanges(digits),
  w: words,
  W: invertedRanges(words),
  s: spaces,
  S: invertedRanges(spaces),
};
const controls: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, '0': 0 };

/**
 * Reads an ECMAScript regular expression, as far as a grammar can say it. `^` and `$` at its ends change nothing: it is the whole text that is
 * guided.
 * @throws RuntimeError GRAMMAR_INVALID naming the position
 */
export function parseRegex(source: string): RegexNode {
  if (source.length > regexLengthMax) {
    throw grammarInvalid(`the regex has ${source.length} characters; at most ${regexLengthMax} are taken`);
  }
  return new RegexParser(source).parse();
}

class RegexParser {
  readonly #source: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    this.#source = [...source];
  }

  parse(): RegexNode {
    const node = this.#choice();
    if (this.#at < this.#source.length) throw this.#invalid(`an unmatched '${this.#peek()}'`);
    checkSize(node);
    return node;
  }

  #peek(): string | undefined {
    return this.#source[this.#at];
  }

  #take(text: string): boolean {
    if (this.#source.slice(this.#at, this.#at + text.length).join('') !== text) return false;
    this.#at += text.length;
    return true;
  }

  #choice(): RegexNode {
    if (this.#depth++ > depthMax) throw this.#invalid(`groups are nested over ${depthMax} deep`);
    const parts = [this.#sequence()];
    while (this.#take('|')) parts.push(this.#sequence());
    this.#depth--;
    return parts.length === 1 ? (parts[0] as RegexNode) : { kind: 'choice', parts };
  }

  #sequence(): RegexNode {
    const parts: RegexNode[] = [];
    this.#take('^');
    for (let next = this.#peek(); next !== undefined && next !== '|' && next !== ')'; next = this.#peek()) {
      if (next === '$') {
        this.#at++;
        const after = this.#peek();
        if (after !== undefined && after !== '|' && after !== ')')
          throw this.#unsupported("a '$' before the end");
        continue;
      }
      parts.push(this.#quantified(this.#atom()));
    }
    return parts.length === 1 ? (parts[0] as RegexNode) : { kind: 'sequence', parts };
  }

  #atom(): RegexNode {
    const character = this.#source[this.#at++] as string;
    switch (character) {
      case '(':
        return this.#group();
      case '[':
        return { kind: 'class', ranges: this.#class() };
      case '.':
        return { kind: 'class', ranges: invertedRanges(lineEnds) };
      case '\\':
        return { kind: 'class', ranges: this.#escape(false) };
      case '^':
        throw this.#unsupported("a '^' behind the start");
      case '*':
      case '+':
      case '?':
        throw this.#invalid(`nothing to repeat before '${character}'`);
      default:
        return { kind: 'class', ranges: single(character) };
    }
  }

  #group(): RegexNode {
    if (this.#take('?:')) {
      // Only groups.
    } else if (this.#take('?')) {
      const isNamed = this.#take('P<') || this.#take('<');
      if (!isNamed || this.#peek() === '=' || this.#peek() === '!')
        throw this.#unsupported('a lookaround or a group with flags');
      while (this.#peek() !== undefined && this.#peek() !== '>') this.#at++;
      this.#at++;
    }
    const node = this.#choice();
    if (!this.#take(')')) throw this.#invalid("a '(' without its ')'");
    return node;
  }

  #quantified(part: RegexNode): RegexNode {
    const counts = this.#counts();
    if (!counts) return part;
    // Lazy or possessive, the texts are the same.
    if (!this.#take('?')) this.#take('+');
    const [min, max] = counts;
    if (min > max) throw this.#invalid(`a repetition of ${min} to ${max}`);
    return this.#quantified({ kind: 'repeat', part, min, max });
  }

  #counts(): [number, number] | undefined {
    if (this.#take('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.#take('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.#take('?')) return [0, 1];
    if (this.#peek() !== '{') return undefined;
    const found = /^\{(\d{1,9})(,(\d{0,9}))?\}/.exec(this.#source.slice(this.#at, this.#at + 24).join(''));
    // A brace that begins no count is one.
    if (!found) return undefined;
    this.#at += found[0].length;
    const min = Number(found[1]);
    if (found[2] === undefined) return [min, min];
    return [min, found[3] === '' ? Number.POSITIVE_INFINITY : Number(found[3])];
  }

  #class(): readonly CodeRange[] {
    const isNegated = this.#take('^');
    const ranges: CodeRange[] = [];
    while (this.#peek() !== ']') {
      const from = this.#classAtom();
      if (this.#peek() === '-' && this.#source[this.#at + 1] !== ']') {
        this.#at++;
        const to = this.#classAtom();
        const [low, high] = [from[0]?.[0] ?? 0, to[0]?.[1] ?? 0];
        if (from.length !== 1 || to.length !== 1 || low > high) throw this.#invalid('a range that is none');
        ranges.push([low, high]);
      } else ranges.push(...from);
    }
    this.#at++;
    const joined = isNegated ? invertedRanges(ranges) : joinedRanges(ranges);
    if (joined.length === 0) throw this.#invalid('a class without characters');
    return joined;
  }

  #classAtom(): readonly CodeRange[] {
    const character = this.#source[this.#at++];
    if (character === undefined) throw this.#invalid("a '[' without its ']'");
    return character === '\\' ? this.#escape(true) : single(character);
  }

  #escape(isInClass: boolean): readonly CodeRange[] {
    const character = this.#source[this.#at++];
    if (character === undefined) throw this.#invalid("a '\\' at the end");
    const known = Object.hasOwn(classes, character) ? classes[character] : undefined;
    if (known) return known;
    if (Object.hasOwn(controls, character))
      return single(String.fromCodePoint(controls[character] as number));
    if (character === 'x') return this.#code(2);
    if (character === 'u') return this.#take('{') ? this.#bracedCode() : this.#code(4);
    if (character === 'b' && isInClass) return [[8, 8]];
    if (/[1-9bBkpPAZzG]/.test(character)) throw this.#unsupported(`'\\${character}'`);
    return single(character);
  }

  #code(length: number): readonly CodeRange[] {
    const hex = this.#source.slice(this.#at, this.#at + length).join('');
    if (!new RegExp(`^[0-9a-fA-F]{${length}}$`).test(hex))
      throw this.#invalid('an escape without its digits');
    this.#at += length;
    const code = Number.parseInt(hex, 16);
    return [[code, code]];
  }

  #bracedCode(): readonly CodeRange[] {
    const end = this.#source.indexOf('}', this.#at);
    const code = Number.parseInt(this.#source.slice(this.#at, end).join(''), 16);
    if (end < 0 || !(code <= codePointMax)) throw this.#invalid('an escape without its digits');
    this.#at = end + 1;
    return [[code, code]];
  }

  #invalid(problem: string) {
    return grammarInvalid(`the regex has ${problem} (character ${this.#at})`);
  }

  #unsupported(what: string) {
    return grammarInvalid(
      `the regex has ${what} (character ${this.#at}), which a grammar cannot say; write it without`,
    );
  }
}

function single(character: string): readonly CodeRange[] {
  const code = character.codePointAt(0) as number;
  return [[code, code]];
}

/** Counts within counts multiply: a short regex may stand for a huge automaton. */
function checkSize(node: RegexNode): number {
  if (node.kind === 'class') return 1;
  if (node.kind !== 'repeat') return node.parts.reduce((sum, part) => sum + checkSize(part), 1);
  const times = node.max === Number.POSITIVE_INFINITY ? Math.max(1, node.min) : node.max;
  const size = times * checkSize(node.part);
  if (size > repetitionMax) {
    throw grammarInvalid(
      `the regex repeats up to ${size} times; at most ${repetitionMax} are taken, counts within counts multiplied`,
    );
  }
  return size;
}
