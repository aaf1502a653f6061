import type { GrammarText } from './grammar-text.ts';
import { anyInteger, anyNumber } from './numbers.ts';

/** How the space between JSON's signs may look. `flexible`: as printers write it, a space or one line break with its indentation. `none`: no space. */
export type JsonWhitespace = 'flexible' | 'none';

/** Indentation behind a line break. A model that could write space for ever would. */
const indentationMax = 24;

/** Rules for JSON's parts in one grammar. */
export class JsonRules {
  readonly grammar: GrammarText;
  /** Behind an opening sign or a comma, and in front of a closing one. */
  readonly space: string;
  /** Behind a colon. */
  readonly colon: string;
  /** One character of a string. */
  readonly character: string;
  readonly integer: string;
  readonly number: string;
  #value: string | undefined;

  constructor(grammar: GrammarText, whitespace: JsonWhitespace) {
    this.grammar = grammar;
    const isFlexible = whitespace === 'flexible';
    this.space = isFlexible ? grammar.rule(`" "? | "\\n" [ \\t]{0,${indentationMax}}`) : '';
    this.colon = isFlexible ? '":" " "?' : '":"';
    // Lone surrogates in escapes are JSON, but no text; pairs of them would count as two characters.
    const escaped = grammar.rule(
      '"\\\\" (["\\\\/bfnrt] | "u" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))',
    );
    this.character = grammar.rule(`[^"\\\\\\u0000-\\u001f\\u007f] | ${escaped}`);
    this.integer = grammar.rule(anyInteger);
    this.number = grammar.rule(anyNumber);
  }

  /** A list of bodies in a row. */
  sequence(...bodies: readonly string[]): string {
    return bodies.filter((body) => body !== '').join(' ');
  }

  /** Any string. */
  get string(): string {
    return this.grammar.rule(`"\\"" (${this.character})* "\\""`);
  }

  /** Any JSON value. */
  get value(): string {
    if (this.#value !== undefined) return this.#value;
    const value = this.grammar.reserve();
    this.#value = value;
    const object = this.listed('{', '}', this.sequence(this.string, this.colon, value));
    const array = this.listed('[', ']', value);
    this.grammar.define(
      value,
      `${object} | ${array} | ${this.string} | ${this.number} | "true" | "false" | "null"`,
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
