import { type CodeRange, characterClass, type GrammarText, literal, oneOf } from './grammar-text.ts';

/** One text of a list, or several of one length: a range a character. */
export type CharacterPattern = readonly CodeRange[];

/** A text as a pattern. */
export function patternOf(text: string): CharacterPattern {
  return [...text].map((character) => {
    const code = character.codePointAt(0) as number;
    return [code, code] as const;
  });
}

/**
 * A body for any of some patterns, in which each character decides: what begins alike is written once, and no two ways overlap. xgrammar 0.1.27
 * mixes ways up that begin with overlapping classes, and compiles these faster.
 */
export function prefixTree(patterns: readonly CharacterPattern[], grammar: GrammarText): string {
  const isOver = patterns.some((pattern) => pattern.length === 0);
  const open = patterns.filter((pattern) => pattern.length > 0);
  if (open.length === 0) return '""';
  const shared = sharedText(open);
  if (shared.length > 0) {
    const rest = prefixTree(
      open.map((pattern) => pattern.slice(shared.length)),
      grammar,
    );
    const body = rest === '""' ? literal(shared.join('')) : `${literal(shared.join(''))} ${rest}`;
    return isOver ? `(${body})?` : body;
  }
  const ways: string[] = [];
  for (const [range, tails] of branches(open)) {
    const rest = prefixTree(tails, grammar);
    const first = range[0] === range[1] ? literal(String.fromCodePoint(range[0])) : characterClass([range]);
    ways.push(rest === '""' ? first : `${first} ${rest}`);
  }
  const body = ways.length === 1 ? (ways[0] as string) : grammar.rule(oneOf(ways));
  return isOver ? `(${body})?` : body;
}

/** The characters that all patterns begin with. */
function sharedText(patterns: readonly CharacterPattern[]): string[] {
  const shared: string[] = [];
  const first = patterns[0] as CharacterPattern;
  for (const [index, [from, to]] of first.entries()) {
    const isShared =
      from === to &&
      patterns.every((pattern) => pattern[index]?.[0] === from && pattern[index]?.[1] === from);
    if (!isShared) break;
    shared.push(String.fromCodePoint(from));
  }
  return shared;
}

/** First characters cut into ranges that do not overlap, each with what may follow. */
function branches(patterns: readonly CharacterPattern[]): [CodeRange, CharacterPattern[]][] {
  const cuts = new Set<number>();
  for (const [first] of patterns) {
    if (!first) continue;
    cuts.add(first[0]);
    cuts.add(first[1] + 1);
  }
  const sorted = [...cuts].sort((left, right) => left - right);
  const places = new Map(sorted.map((cut, index) => [cut, index]));
  const tails: CharacterPattern[][] = sorted.map(() => []);
  for (const [first, ...tail] of patterns) {
    if (!first) continue;
    const end = places.get(first[1] + 1) ?? 0;
    for (let index = places.get(first[0]) ?? 0; index < end; index++) tails[index]?.push(tail);
  }
  const found: [CodeRange, CharacterPattern[]][] = [];
  for (const [index, own] of tails.entries()) {
    if (own.length > 0) found.push([[sorted[index] as number, (sorted[index + 1] as number) - 1], own]);
  }
  return found;
}
