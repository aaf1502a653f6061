import { grammarInvalid } from './grammar-text.ts';
import {
  type AnySchema,
  asSchema,
  isObject,
  isOfType,
  listedValues,
  nameList,
  resolveReference,
  type Schema,
  type SchemaType,
  sameJson,
  schemaDepthMax,
  schemaMap,
  typesOf,
} from './schema.ts';

/** Alternatives that two unions may come to when both hold. */
const alternativesMax = 256;

const larger: readonly string[] = [
  'minimum',
  'exclusiveMinimum',
  'minLength',
  'minItems',
  'minProperties',
  'minContains',
];
const smaller: readonly string[] = [
  'maximum',
  'exclusiveMaximum',
  'maxLength',
  'maxItems',
  'maxProperties',
  'maxContains',
];

/**
 * One schema for what satisfies two: `false` if nothing can.
 * @param root what references point into
 * @throws RuntimeError GRAMMAR_INVALID for keywords that do not go together in a grammar
 */
export function mergeSchemas(
  left: AnySchema,
  right: AnySchema,
  root: AnySchema,
  place: string,
  depth = 0,
): AnySchema {
  if (depth > schemaDepthMax)
    throw grammarInvalid(`schemas that hold together are nested over ${schemaDepthMax} deep`, place);
  if (left === false || right === false) return false;
  if (left === true) return right;
  if (right === true) return left;
  if (left.$ref !== undefined)
    return mergeSchemas(dereferenced(left, root, place, depth), right, root, place, depth + 1);
  if (right.$ref !== undefined)
    return mergeSchemas(left, dereferenced(right, root, place, depth), root, place, depth + 1);
  const merged: Record<string, unknown> = { ...left };
  for (const [keyword, value] of Object.entries(right)) {
    if (merged[keyword] === undefined) merged[keyword] = value;
    else if (keyword === 'required')
      merged.required = [...new Set([...nameList(merged.required, place), ...nameList(value, place)])];
    else if (larger.includes(keyword)) merged[keyword] = Math.max(Number(merged[keyword]), Number(value));
    else if (smaller.includes(keyword)) merged[keyword] = Math.min(Number(merged[keyword]), Number(value));
    else if (bothHold.includes(keyword)) merged[keyword] = { allOf: [merged[keyword], value] };
    else if (keyword === 'pattern' && merged.pattern !== value)
      throw grammarInvalid('two patterns for one text', place);
    else if (keyword === 'allOf') merged.allOf = [...(merged.allOf as unknown[]), ...(value as unknown[])];
    else if (keyword === 'anyOf' || keyword === 'oneOf')
      merged[keyword] = crossed(merged[keyword], value, place);
    else if (keyword === 'uniqueItems') merged.uniqueItems = merged.uniqueItems === true || value === true;
    else if (keyword === 'multipleOf' && !sameJson(merged.multipleOf, value))
      merged.multipleOf = commonMultiple(Number(merged.multipleOf), Number(value));
  }
  mergeProperties(merged, left, right, place);
  if (!mergeValues(merged, left, right, place)) return false;
  return merged;
}

const bothHold: readonly string[] = ['items', 'contains', 'propertyNames'];

function dereferenced(schema: Schema, root: AnySchema, place: string, depth: number): AnySchema {
  const { $ref, ...own } = schema;
  const target = resolveReference(root, $ref, place);
  return Object.keys(own).length === 0 ? target : mergeSchemas(own, target, root, place, depth + 1);
}

/** A property must satisfy what either side says of it, be it by name or as an additional one. */
function mergeProperties(merged: Record<string, unknown>, left: Schema, right: Schema, place: string): void {
  const sides = [left, right].map((side) => ({
    properties: schemaMap(side.properties, `${place}.properties`),
    additional: side.additionalProperties,
    hasPatterns: side.patternProperties !== undefined,
  }));
  const names = new Set(sides.flatMap(({ properties }) => [...properties.keys()]));
  if (names.size > 0) {
    merged.properties = Object.fromEntries(
      [...names].map((name) => {
        const said = sides.map(
          ({ properties, additional, hasPatterns }) =>
            properties.get(name) ?? (hasPatterns ? true : (additional ?? true)),
        );
        const telling = said.filter((schema) => schema !== true);
        return [
          name,
          telling.includes(false)
            ? false
            : telling.length === 0
              ? true
              : telling.length === 1
                ? telling[0]
                : { allOf: telling },
        ];
      }),
    );
  }
  const additional = sides
    .map((side) => side.additional)
    .filter((side) => side !== undefined && side !== true);
  if (additional.includes(false)) merged.additionalProperties = false;
  else if (additional.length === 2) merged.additionalProperties = { allOf: additional };
  else if (additional.length === 1) merged.additionalProperties = additional[0];
}

/** @returns false if no value is left */
function mergeValues(merged: Record<string, unknown>, left: Schema, right: Schema, place: string): boolean {
  const types = [left, right].map((side) => (side.type === undefined ? undefined : typesOf(side, place)));
  if (types[0] && types[1]) {
    const common = commonTypes(types[0], types[1]);
    if (common.length === 0) return false;
    merged.type = common;
  }
  const values = [listedValues(left, place), listedValues(right, place)];
  const listed =
    values[0] && values[1]
      ? values[0].filter((value) => values[1]?.some((other) => sameJson(value, other)))
      : (values[0] ?? values[1]);
  if (!listed) return true;
  delete merged.const;
  const allowed = merged.type === undefined ? undefined : typesOf(merged, place);
  merged.enum = listed.filter((value) => !allowed || isOfType(value, allowed));
  return (merged.enum as unknown[]).length > 0;
}

function commonTypes(left: readonly SchemaType[], right: readonly SchemaType[]): SchemaType[] {
  const common = left.filter(
    (type) => right.includes(type) || (type === 'integer' && right.includes('number')),
  );
  if (right.includes('integer') && left.includes('number') && !common.includes('integer'))
    common.push('integer');
  return common;
}

function crossed(left: unknown, right: unknown, place: string): unknown[] {
  const [one, other] = [left as unknown[], right as unknown[]];
  if (!Array.isArray(one) || !Array.isArray(other) || one.length * other.length > alternativesMax) {
    throw grammarInvalid(`two unions that hold together come to over ${alternativesMax} alternatives`, place);
  }
  return one.flatMap((each) => other.map((with_) => ({ allOf: [each, with_] })));
}

function commonMultiple(left: number, right: number): number {
  if (!Number.isInteger(left) || !Number.isInteger(right))
    throw grammarInvalid('two multipleOf, not both integers', '');
  let [a, b] = [left, right];
  while (b !== 0) [a, b] = [b, a % b];
  return (left / a) * right;
}

/**
 * Whether no value satisfies both, as far as that shows: then `oneOf` is `anyOf`.
 */
export function areDisjoint(
  left: AnySchema,
  right: AnySchema,
  root: AnySchema,
  place: string,
  depth = 0,
): boolean {
  if (left === false || right === false) return true;
  if (left === true || right === true || depth > 8) return false;
  if (left.$ref !== undefined)
    return areDisjoint(dereferenced(left, root, place, depth), right, root, place, depth + 1);
  if (right.$ref !== undefined)
    return areDisjoint(left, dereferenced(right, root, place, depth), root, place, depth + 1);
  const values = [listedValues(left, place), listedValues(right, place)];
  if (values[0] && values[1])
    return !values[0].some((value) => values[1]?.some((other) => sameJson(value, other)));
  const types = [typesOf(left, place), typesOf(right, place)];
  for (const [index, listed] of values.entries()) {
    const others = types[1 - index];
    if (listed && others) return !listed.some((value) => isOfType(value, others));
  }
  if (!types[0] || !types[1]) return false;
  const common = commonTypes(types[0], types[1]);
  if (common.length === 0) return true;
  if (common.length > 1 || common[0] !== 'object') return false;
  return haveDisjointProperties(left, right, root, place, depth);
}

function haveDisjointProperties(
  left: Schema,
  right: Schema,
  root: AnySchema,
  place: string,
  depth: number,
): boolean {
  const sides = [left, right].map((side) => ({
    properties: schemaMap(side.properties, place),
    required: nameList(side.required, place),
    isClosed: side.additionalProperties === false && !isObject(side.patternProperties),
  }));
  const [one, other] = sides;
  if (!one || !other) return false;
  for (const [here, there] of [
    [one, other],
    [other, one],
  ] as const) {
    for (const name of here.required) {
      const mine = here.properties.get(name);
      const theirs = there.properties.get(name);
      if (theirs === undefined) {
        if (there.isClosed) return true;
      } else if (
        mine !== undefined &&
        there.required.includes(name) &&
        areDisjoint(asSchema(mine, place), theirs, root, place, depth + 1)
      )
        return true;
    }
  }
  return false;
}
