import { RuntimeError } from '../../errors.ts';
import { guideLengthMax } from '../guide.ts';

/** Code points from one to another, both included. */
export type CodeRange = readonly [from: number, to: number];

/** Rules of one grammar. */
export const grammarRulesMax = 20_000;
/** The last code point. */
export const codePointMax = 0x10ffff;

/** A wish that cannot be made into a grammar. @param place where in it: `properties.age`, or '' */
export function grammarInvalid(problem: string, place = ''): RuntimeError {
  return new RuntimeError('GRAMMAR_INVALID', place === '' ? problem : `at ${place}: ${problem}`);
}

/** An EBNF grammar in xgrammar's syntax, written rule by rule. Bodies that are the same become one rule. */
export class GrammarText {
  /** By name. */
  readonly #bodies = new Map<string, string>();
  readonly #byBody = new Map<string, string>();
  #length = 0;
  #count = 0;

  /** The name of a rule with this body. @throws RuntimeError GRAMMAR_INVALID over the limits */
  rule(body: string): string {
    const known = this.#byBody.get(body);
    if (known !== undefined) return known;
    const name = this.reserve();
    this.define(name, body);
    this.#byBody.set(body, name);
    return name;
  }

  /** A name for a rule that is defined later, so that it may refer to itself. */
  reserve(): string {
    if (this.#count >= grammarRulesMax) throw tooLarge();
    return `r${this.#count++}`;
  }

  define(name: string, body: string): void {
    this.#length += name.length + body.length + 6;
    if (this.#length > guideLengthMax) throw tooLarge();
    this.#bodies.set(name, body);
  }

  /**
   * The whole grammar: what its first rule needs. xgrammar 0.1.27 mixes rules up where there are some that nobody refers to.
   * @param root body of the first rule
   */
  text(root: string): string {
    const lines = [`root ::= ${root}`];
    const seen = new Set<string>();
    const waiting = references(root);
    for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
      const body = this.#bodies.get(name);
      if (seen.has(name) || body === undefined) continue;
      seen.add(name);
      lines.push(`${name} ::= ${body}`);
      waiting.push(...references(body));
    }
    return lines.join('\n');
  }
}

/** Names of rules in a body; what stands in quotes or brackets is none. */
function references(body: string): string[] {
  const names = body.matchAll(/"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|(r\d+)/gs);
  return [...names].map(([, name]) => name).filter((name) => name !== undefined);
}

function tooLarge(): RuntimeError {
  const limits = `over ${grammarRulesMax} rules or ${guideLengthMax} characters`;
  return grammarInvalid(`the grammar becomes too large (${limits}); make it simpler`);
}

/** A text that must stand there as it is. */
export function literal(text: string): string {
  let body = '';
  // A lone surrogate is in no text.
  for (const character of text.replace(/\p{Surrogate}/gu, '\ufffd')) {
    const code = character.codePointAt(0) as number;
    if (character === '"' || character === '\\') body += `\\${character}`;
    else body += code < 0x20 || code === 0x7f ? escapedCode(code) : character;
  }
  return `"${body}"`;
}

/** One character out of some ranges. */
export function characterClass(ranges: readonly CodeRange[]): string {
  const ascii = within(ranges, 0, asciiMax);
  const beyond = within(ranges, asciiMax + 1, codePointMax);
  const size = beyond.reduce((sum, [from, to]) => sum + to - from + 1, 0);
  if (size >= beyondAsciiSize - exceptionsMax) {
    const without = within(invertedRanges(ascii), 0, asciiMax);
    // Nothing to leave out: a control that is never written.
    return `[^${classBody(without.length > 0 ? without : [[0, 0]])}]`;
  }
  const bodies = ascii.length > 0 ? [`[${classBody(ascii)}]`] : [];
  if (size <= listedCharactersMax) {
    for (const [from, to] of beyond) {
      for (let code = from; code <= to; code++) bodies.push(literal(String.fromCodePoint(code)));
    }
  }
  if (bodies.length > 0) return oneOf(bodies);
  const problem = `a class of ${size} characters beyond ASCII`;
  throw grammarInvalid(
    `${problem} is too large; at most ${listedCharactersMax} are listed, or take all (\\S, .)`,
  );
}

const asciiMax = 0x7f;
/** Code points behind ASCII that text may hold. */
const beyondAsciiSize = codePointMax - asciiMax - 2048;
/** A class that lacks so few of them (line ends that nobody writes) counts as having them all. */
const exceptionsMax = 64;
/** Characters beyond ASCII that are listed one by one: xgrammar 0.1.27 takes any for a class that has one. A larger class has its ASCII part only. */
const listedCharactersMax = 512;

function within(ranges: readonly CodeRange[], low: number, high: number): CodeRange[] {
  const cut = ranges.map(([from, to]) => [Math.max(from, low), Math.min(to, high)] as const);
  return joinedRanges(cut.filter(([from, to]) => from <= to));
}

function classBody(ranges: readonly CodeRange[]): string {
  return ranges
    .map(([from, to]) =>
      from === to ? classCharacter(from) : `${classCharacter(from)}-${classCharacter(to)}`,
    )
    .join('');
}

function classCharacter(code: number): string {
  const character = String.fromCodePoint(code);
  return /[A-Za-z0-9]/.test(character) ? character : escapedCode(code);
}

function escapedCode(code: number): string {
  const hex = code.toString(16);
  return code <= 0xffff ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
}

/** Either of some bodies. */
export function oneOf(bodies: readonly string[]): string {
  return bodies.length === 1 ? (bodies[0] as string) : `(${[...new Set(bodies)].join(' | ')})`;
}

/** A body so many times. @param max Infinity for no end */
export function repeated(body: string, min: number, max: number): string {
  if (max === 0) return '""';
  if (min === 1 && max === 1) return body;
  if (min === 0 && max === 1) return `(${body})?`;
  const counts =
    max === Number.POSITIVE_INFINITY ? (min === 0 ? '*' : min === 1 ? '+' : `{${min},}`) : `{${min},${max}}`;
  return `(${body})${counts}`;
}

/** Sorted ranges without overlaps. */
export function joinedRanges(ranges: readonly CodeRange[]): CodeRange[] {
  const sorted = [...ranges].sort((left, right) => left[0] - right[0]);
  const joined: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = joined.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

/** All code points outside of some ranges. */
export function invertedRanges(ranges: readonly CodeRange[]): CodeRange[] {
  const inverted: CodeRange[] = [];
  let next = 0;
  for (const [from, to] of joinedRanges(ranges)) {
    if (from > next) inverted.push([next, from - 1]);
    next = to + 1;
  }
  if (next <= codePointMax) inverted.push([next, codePointMax]);
  return inverted;
}

/** What of some ranges is outside of others. */
export function rangesWithout(ranges: readonly CodeRange[], without: readonly CodeRange[]): CodeRange[] {
  return invertedRanges([...invertedRanges(ranges), ...without]);
}

/** Whether a code point lies in one of some ranges. */
export function inRanges(ranges: readonly CodeRange[], code: number): boolean {
  return ranges.some(([from, to]) => code >= from && code <= to);
}
