import { boundMax, boundsMax, lengthMark, tokenLengthMax } from '../string-lengths.ts';
import { type GrammarText, oneOf, repeated } from './grammar-text.ts';
import { anyInteger, anyNumber } from './numbers.ts';

/** How the space between JSON's signs may look. `flexible`: as printers write it, a space or one line break with its indentation. `none`: no space. */
export type JsonWhitespace = 'flexible' | 'none';

/** Indentation behind a line break. A model that could write space for ever would. */
const indentationMax = 24;

/** A character of a string that is written as it is. */
const plainCharacter = '[^"\\\\\\u0000-\\u001f\\u007f]';
/** The others, in strings whose characters the grammar counts. */
const shortEscape = '"\\\\" ["\\\\/bfnrt]';
/** Strings up to so many characters are counted by the grammar, about 10 ms of compiling a count; up to the second one without escapes, half of that. */
const countedMax = tokenLengthMax;
const countedPlainMax = 96;

/** Rules for JSON's parts in one grammar. */
export class JsonRules {
  readonly grammar: GrammarText;
  /** Behind an opening sign or a comma, and in front of a closing one. */
  readonly space: string;
  /** Behind a colon. */
  readonly colon: string;
  readonly #escaped: string;
  readonly integer: string;
  readonly number: string;
  #value: string | undefined;
  readonly #bounds = new Set<number>();

  constructor(grammar: GrammarText, whitespace: JsonWhitespace) {
    this.grammar = grammar;
    const isFlexible = whitespace === 'flexible';
    this.space = isFlexible ? grammar.rule(`" "? | "\\n" [ \\t]{0,${indentationMax}}`) : '';
    this.colon = isFlexible ? '":" " "?' : '":"';
    // Lone surrogates in escapes are JSON, but no text; pairs of them would count as two characters.
    this.#escaped = grammar.rule(
      '"\\\\" (["\\\\/bfnrt] | "u" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))',
    );
    this.integer = grammar.rule(anyInteger);
    this.number = grammar.rule(anyNumber);
  }

  /** A list of bodies in a row. */
  sequence(...bodies: readonly string[]): string {
    return bodies.filter((body) => body !== '').join(' ');
  }

  /**
   * A string of so many characters. Runs of plain ones are written as a class, whose masks xgrammar makes when it compiles; a rule for a character
   * would be looked into for each token of the vocabulary at each mask (50 ms). Counted classes take some ms a count to compile, so what
   * is longer has a mark instead, and `StringLengths` counts.
   */
  string(min = 0, max = Number.POSITIVE_INFINITY): string {
    return this.grammar.rule(`"\\"" ${this.#characters(min, max)} "\\""`);
  }

  #characters(min: number, max: number): string {
    if (max <= countedMax) return repeated(oneOf([plainCharacter, shortEscape]), min, max);
    const isMarked = max - min >= tokenLengthMax && min <= countedMax;
    if (max !== Number.POSITIVE_INFINITY && !isMarked) {
      if (max <= countedPlainMax) return repeated(plainCharacter, min, max);
      return repeated(this.grammar.rule(`${plainCharacter} | ${this.#escaped}`), min, max);
    }
    const ways = oneOf(max === Number.POSITIVE_INFINITY ? [this.#escaped] : [this.#escaped, this.#mark(max)]);
    const rest = `${plainCharacter}* (${ways} ${plainCharacter}*)*`;
    return min === 0 ? rest : `${repeated(oneOf([plainCharacter, shortEscape]), min, min)} ${rest}`;
  }

  /** A bound that is not there yet, where there are too many, becomes the next lower one. */
  #mark(max: number): string {
    const lower = [...this.#bounds].filter((bound) => bound <= max);
    const bound = this.#bounds.size < boundsMax ? max : Math.max(countedMax, ...lower);
    this.#bounds.add(bound);
    return lengthMark(Math.min(bound, boundMax));
  }

  /** Any JSON value. */
  get value(): string {
    if (this.#value !== undefined) return this.#value;
    const value = this.grammar.reserve();
    this.#value = value;
    const object = this.listed('{', '}', this.sequence(this.string(), this.colon, value));
    const array = this.listed('[', ']', value);
    this.grammar.define(
      value,
      `${object} | ${array} | ${this.string()} | ${this.number} | "true" | "false" | "null"`,
    );
    return value;
  }

  /** Any number of the same between two signs. */
  listed(open: string, close: string, entry: string): string {
    const { space } = this;
    const more = `(${this.sequence('","', space, entry)})*`;
    return this.grammar.rule(
      this.sequence(`"${open}"`, space, `(${this.sequence(entry, more, space)})?`, `"${close}"`),
    );
  }
}
