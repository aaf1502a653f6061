import { grammarInvalid, literal, repeated } from './grammar-text.ts';
import {
  type AnySchema,
  asSchema,
  countOr,
  isObject,
  listedValues,
  type Schema,
  schemaList,
} from './schema.ts';
import type { SchemaContext } from './schema-context.ts';

/** Listed values that a set is made of, at most. */
const setValuesMax = 64;

/** An array's body. @throws RuntimeError GRAMMAR_INVALID */
export function arrayBody(schema: Schema, writer: SchemaContext, place: string): string | undefined {
  const { first, rest } = itemsOf(schema, writer, place);
  let min = countOr(schema.minItems, 0, `${place}.minItems`);
  let max = countOr(schema.maxItems, Number.POSITIVE_INFINITY, `${place}.maxItems`);
  if (schema.contains !== undefined) {
    // All of them are what some must be.
    min = Math.max(min, countOr(schema.minContains, 1, `${place}.minContains`));
    max = Math.min(max, countOr(schema.maxContains, max, `${place}.maxContains`));
  }
  if (min > max) throw grammarInvalid(`minItems ${min} is over maxItems ${max}`, place);
  if (schema.uniqueItems === true && max > 1) {
    const set = first.length === 0 ? setBody(rest, min, max, writer, place) : undefined;
    if (set !== undefined) return set;
    writer.refuse('uniqueItems of what is not listed', place);
  }
  return listBody(first, rest, { min, max }, writer, place);
}

/** Schemas by place, then of all others; drafts differ in the words. */
function itemsOf(
  schema: Schema,
  writer: SchemaContext,
  place: string,
): { first: AnySchema[]; rest: AnySchema } {
  const isOld = Array.isArray(schema.items);
  const listed = isOld ? schema.items : schema.prefixItems;
  const others = isOld ? schema.additionalItems : schema.items;
  const first =
    listed === undefined || (Array.isArray(listed) && listed.length === 0)
      ? []
      : schemaList(listed, `${place}.prefixItems`);
  // As with properties: what is not described is not made, unless nothing is.
  const rest =
    others === undefined
      ? first.length === 0 && schema.unevaluatedItems !== false
      : asSchema(others, `${place}.items`);
  if (schema.contains === undefined) return { first: [...first], rest };
  const contained = asSchema(schema.contains, `${place}.contains`);
  return {
    first: first.map((item) => writer.merged(item, contained, place)),
    rest: rest === false ? false : writer.merged(rest, contained, place),
  };
}

interface Counts {
  min: number;
  max: number;
}

function listBody(
  first: readonly AnySchema[],
  rest: AnySchema,
  { min, max }: Counts,
  writer: SchemaContext,
  place: string,
): string | undefined {
  const { rules } = writer;
  const { space, grammar } = rules;
  const items = first
    .slice(0, max === Number.POSITIVE_INFINITY ? undefined : max)
    .map((item, index) => writer.body(item, `${place}.prefixItems[${index}]`));
  const other = rest === false ? undefined : writer.bodyOrNone(rest, `${place}.items`);
  if (other === undefined && items.length < min) return undefined;
  const led = (body: string): string => rules.sequence('","', space, body);
  const restMax = other === undefined ? 0 : max - items.length;
  const restMin = Math.max(0, min - items.length);
  let inner: string | undefined;
  if (items.length === 0) {
    if (other === undefined || restMax === 0) inner = '""';
    else {
      const more = repeated(led(other), Math.max(0, restMin - 1), restMax - 1);
      const some = rules.sequence(other, more, space);
      inner = restMin === 0 ? `(${some})?` : some;
    }
  } else {
    // Items in front need not all be there, but for `minItems`.
    let tail = other === undefined || restMax === 0 ? '""' : repeated(led(other), restMin, restMax);
    for (let index = items.length - 1; index > 0; index--) {
      const next = rules.sequence(led(items[index] as string), tail);
      tail = grammar.rule(index < min ? next : `(${next})?`);
    }
    const some = rules.sequence(items[0] as string, tail, space);
    inner = min === 0 && other === undefined ? `(${some})` : some;
  }
  return grammar.rule(rules.sequence('"["', space, inner, '"]"'));
}

/** Distinct values out of a list, in its order: a set. */
function setBody(
  item: AnySchema,
  min: number,
  max: number,
  writer: SchemaContext,
  place: string,
): string | undefined {
  const values = isObject(item)
    ? (listedValues(item, place) ?? (item.type === 'boolean' ? [true, false] : undefined))
    : undefined;
  if (!values || values.length > setValuesMax) return undefined;
  const { rules } = writer;
  const { space, grammar } = rules;
  const texts = [...new Set(values.map((value) => JSON.stringify(value)))];
  const most = Math.min(max, texts.length);
  const known = new Map<string, string | undefined>();
  const after = (index: number, count: number): string | undefined => {
    const key = `${index} ${count}`;
    if (known.has(key)) return known.get(key);
    const left = count >= min ? '""' : undefined;
    const ways = left === undefined ? [] : [left];
    const text = texts[index];
    if (text !== undefined && count < most) {
      const next = after(index + 1, count + 1);
      if (next !== undefined)
        ways.push(rules.sequence(count === 0 ? '' : '","', count === 0 ? '' : space, literal(text), next));
      const skipped = after(index + 1, count);
      if (skipped !== undefined) ways.push(skipped);
    }
    const body = ways.length === 0 ? undefined : grammar.rule(ways.join(' | '));
    known.set(key, body);
    return body;
  };
  const inner = after(0, 0);
  return inner === undefined ? undefined : grammar.rule(rules.sequence('"["', space, inner, space, '"]"'));
}
