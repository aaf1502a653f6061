import {
  type CodeRange,
  characterClass,
  codePointMax,
  grammarInvalid,
  inRanges,
  literal,
  oneOf,
  rangesWithout,
} from './grammar-text.ts';
import type { JsonRules } from './json-rules.ts';
import { regexInJsonString } from './regex.ts';
import { parseRegex } from './regex-syntax.ts';

/** One pair that an object may have. */
export interface ObjectMember {
  /** `"name": value`, as a body. */
  pair: string;
  isRequired: boolean;
}

/** An object's pairs, ready as bodies. */
export interface ObjectParts {
  members: readonly ObjectMember[];
  /** A pair beside them; undefined: there are none. */
  additional: string | undefined;
  min: number;
  max: number;
}

/** Properties counted for minProperties and maxProperties. */
const countedMax = 1_000;

/**
 * An object's body: its members in their order, the optional ones or not, then additional ones. A rule for each member and number of those before it
 * (or only whether there are any, where nothing counts them).
 */
export function objectBody(parts: ObjectParts, rules: JsonRules, place: string): string {
  const { space } = rules;
  return rules.grammar.rule(rules.sequence('"{"', space, pairsBody(parts, rules, place), space, '"}"'));
}

/** As {@link objectBody}, without the braces. */
export function pairsBody(
  { members, additional, min, max }: ObjectParts,
  rules: JsonRules,
  place: string,
): string {
  const required = members.filter(({ isRequired }) => isRequired).length;
  const most = additional === undefined ? members.length : Number.POSITIVE_INFINITY;
  if (required > max || most < min)
    throw grammarInvalid('no object has so many properties (minProperties, maxProperties)', place);
  const isCounted = min > required || max < most;
  if (isCounted && Math.max(min, max === Number.POSITIVE_INFINITY ? 0 : max) > countedMax) {
    throw grammarInvalid(`minProperties and maxProperties over ${countedMax} are not counted`, place);
  }
  // What lies above counts as equal.
  const cap = isCounted ? Math.max(min, max === Number.POSITIVE_INFINITY ? 1 : max) : 1;
  const known = new Map<string, string | undefined>();
  const { space } = rules;
  const after = (index: number, count: number): string | undefined => {
    const key = `${index} ${count}`;
    if (!known.has(key)) known.set(key, tail(index, count));
    return known.get(key);
  };
  const led = (pair: string, count: number): string =>
    count === 0 ? pair : rules.sequence('","', space, pair);
  const tail = (index: number, count: number): string | undefined => {
    const member = members[index];
    if (!member) return ending(count);
    const next = isCounted && count >= max ? undefined : after(index + 1, Math.min(count + 1, cap));
    const taken = next === undefined ? undefined : rules.sequence(led(member.pair, count), next);
    if (member.isRequired) return taken && rules.grammar.rule(taken);
    const left = after(index + 1, count);
    const ways = [taken, left].filter((way) => way !== undefined);
    return ways.length === 0 ? undefined : rules.grammar.rule(ways.join(' | '));
  };
  const ending = (count: number): string | undefined => {
    if (additional === undefined || (isCounted && count >= max))
      return !isCounted || count >= min ? '""' : undefined;
    if (!isCounted || (count >= cap && max === Number.POSITIVE_INFINITY)) {
      const more = `(${rules.sequence('","', space, additional)})*`;
      return count === 0 ? `(${additional} ${more})?` : more;
    }
    const next = ending(count + 1);
    const taken = next === undefined ? undefined : rules.sequence(led(additional, count), next);
    const ways = [taken, count >= min ? '""' : undefined].filter((way) => way !== undefined);
    return ways.length === 0 ? undefined : rules.grammar.rule(ways.join(' | '));
  };
  const inner = after(0, 0);
  if (inner === undefined) throw grammarInvalid('no object has such a number of properties', place);
  return inner;
}

const specials: readonly CodeRange[] = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x7f, 0x7f],
  [0xd800, 0xdfff],
];
const plain: readonly CodeRange[] = rangesWithout([[0, codePointMax]], specials);

/** A key that is none of some names; it is written without escapes, so that no name comes back in disguise. */
export function keyOtherThan(names: readonly string[], rules: JsonRules): string {
  const rest = rules.grammar.rule(`(${characterClass(plain)})* "\\""`);
  const isPlain = (name: string): boolean =>
    [...name].every((character) => inRanges(plain, character.codePointAt(0) as number));
  const body = branches(
    names.filter(isPlain).map((name) => [...name]),
    rest,
    rules,
  );
  return rules.grammar.rule(`"\\"" ${body}`);
}

function branches(names: readonly (readonly string[])[], rest: string, rules: JsonRules): string {
  if (names.length === 0) return rest;
  const children = new Map<string, string[][]>();
  for (const [first, ...tail] of names) {
    if (first === undefined) continue;
    const known = children.get(first);
    if (known) known.push(tail);
    else children.set(first, [tail]);
  }
  const taken: CodeRange[] = [...children.keys()].map((character) => {
    const code = character.codePointAt(0) as number;
    return [code, code];
  });
  const ways = [...children].map(
    ([character, tails]) => `${literal(character)} ${branches(tails, rest, rules)}`,
  );
  ways.push(
    `${characterClass(
      rangesWithout(
        plain,
        taken.filter(([code]) => code <= 0x7f),
      ),
    )} ${rest}`,
  );
  if (!names.some((name) => name.length === 0)) ways.push('"\\""');
  return rules.grammar.rule(oneOf(ways));
}

/** A key that matches a pattern as a whole. */
export function keyLike(pattern: string, rules: JsonRules): string {
  return rules.grammar.rule(`"\\"" ${regexInJsonString(parseRegex(pattern), rules.grammar)} "\\""`);
}
