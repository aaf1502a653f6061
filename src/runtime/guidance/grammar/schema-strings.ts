import { grammarInvalid } from './grammar-text.ts';
import type { JsonRules } from './json-rules.ts';
import { regexInJsonString } from './regex.ts';
import { parseRegex, type RegexNode } from './regex-syntax.ts';
import { countOr, type Schema } from './schema.ts';

const label = '[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?';
const hostname = `${label}(\\.${label}){0,3}\\.[a-z]{2,10}`;
const date = '(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])';
const clock = '([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-2]):[0-5][0-9])';
const byte = '(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])';
const uri = `https?://${hostname}(:[1-9][0-9]{1,3})?(/[A-Za-z0-9._~-]{1,40}){0,8}/?(\\?[A-Za-z0-9._~=&-]{1,80})?(#[A-Za-z0-9._~-]{1,40})?`;

/** Texts of the formats of JSON schema: some of each, every one of which any validator takes. Other formats are remarks. */
export const stringFormats: Readonly<Record<string, string>> = {
  date,
  time: clock,
  'date-time': `${date}T${clock}`,
  duration: 'P([1-9][0-9]{0,3}D(T[1-9][0-9]?H)?|[1-9][0-9]?W|T[1-9][0-9]{0,3}[HMS])',
  email: `[a-z0-9]{1,20}([._+-][a-z0-9]{1,20}){0,2}@${hostname}`,
  hostname,
  ipv4: `${byte}(\\.${byte}){3}`,
  ipv6: '([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}',
  uuid: '[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}',
  uri,
  'uri-reference': uri,
  iri: uri,
};

/** A string's body. @param refuse hears of what the grammar cannot say */
export function stringBody(
  schema: Schema,
  rules: JsonRules,
  place: string,
  refuse: (what: string) => void,
): string {
  const min = countOr(schema.minLength, 0, `${place}.minLength`);
  const max = countOr(schema.maxLength, Number.POSITIVE_INFINITY, `${place}.maxLength`);
  if (min > max) throw grammarInvalid(`minLength ${min} is over maxLength ${max}`, place);
  const source = sourceOf(schema, place);
  if (source === undefined) return rules.string(min, max);
  const node = bounded(parseRegex(source), min, max);
  if (!node) refuse('minLength and maxLength beside a pattern or a format');
  return rules.grammar.rule(`"\\"" ${regexInJsonString(node ?? parseRegex(source), rules.grammar)} "\\""`);
}

function sourceOf({ pattern, format }: Schema, place: string): string | undefined {
  if (typeof pattern === 'string') return pattern;
  if (pattern !== undefined) throw grammarInvalid('a pattern must be a text', place);
  return typeof format === 'string' && Object.hasOwn(stringFormats, format)
    ? stringFormats[format]
    : undefined;
}

/** A regex within bounds of its length: where it keeps them by itself, or repeats one character. */
function bounded(node: RegexNode, min: number, max: number): RegexNode | undefined {
  const [shortest, longest] = lengths(node);
  if (shortest >= min && longest <= max) return node;
  if (node.kind !== 'repeat' || node.part.kind !== 'class') return undefined;
  const counts = { min: Math.max(min, node.min), max: Math.min(max, node.max) };
  return counts.min <= counts.max ? { ...node, ...counts } : undefined;
}

function lengths(node: RegexNode): [shortest: number, longest: number] {
  if (node.kind === 'class') return [1, 1];
  if (node.kind === 'repeat') {
    const [shortest, longest] = lengths(node.part);
    return [shortest * node.min, longest === 0 ? 0 : longest * node.max];
  }
  const parts = node.parts.map(lengths);
  if (node.kind === 'choice')
    return [Math.min(...parts.map(([low]) => low)), Math.max(...parts.map(([, high]) => high))];
  return parts.reduce(([low, high], [shortest, longest]) => [low + shortest, high + longest], [0, 0]);
}
