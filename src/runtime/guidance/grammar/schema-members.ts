import { grammarInvalid, literal } from './grammar-text.ts';
import { patternOf, prefixTree } from './prefix-tree.ts';
import {
  type AnySchema,
  asSchema,
  countOr,
  isObject,
  listedValues,
  nameList,
  type Schema,
  schemaMap,
} from './schema.ts';
import type { SchemaContext } from './schema-context.ts';
import { keyLike, keyOtherThan, type ObjectMember, type ObjectParts } from './schema-objects.ts';

/** An object schema's pairs, as bodies. @throws RuntimeError GRAMMAR_INVALID */
export function membersOf(
  schema: Schema,
  writer: SchemaContext,
  place: string,
  pairOf: PairWriter = jsonPair,
): ObjectParts {
  const properties = schemaMap(schema.properties, `${place}.properties`);
  const required = requiredOf(schema, place);
  const others = otherSchema(schema, properties, place);
  // What is required and not described is what any other property is.
  for (const name of required) if (!properties.has(name)) properties.set(name, others.schema ?? true);
  const members: ObjectMember[] = [];
  const taken: string[] = [];
  for (const [name, declared] of properties) {
    taken.push(name);
    const value = writer.bodyOrNone(declared, `${place}.properties.${name}`);
    const isRequired = required.has(name);
    if (value === undefined) {
      if (isRequired)
        throw grammarInvalid(`nothing satisfies the required property '${name.slice(0, 80)}'`, place);
      continue;
    }
    members.push({ pair: pairOf(name, value, writer), isRequired });
  }
  const min = countOr(schema.minProperties, 0, `${place}.minProperties`);
  const max = countOr(schema.maxProperties, Number.POSITIVE_INFINITY, `${place}.maxProperties`);
  // A keyword that nobody described is no argument.
  const isJson = pairOf === jsonPair;
  const additional = isJson ? additionalPair(schema, others, taken, writer, place) : undefined;
  if (additional !== undefined && min > members.length + 1) {
    writer.refuse('minProperties over the named ones (a key may come twice)', place);
  }
  return { members, additional, min, max };
}

/** Writes a named pair. */
type PairWriter = (name: string, value: string, writer: SchemaContext) => string;

const jsonPair: PairWriter = (name, value, writer) => keyed(literal(JSON.stringify(name)), value, writer);

/** A keyword argument of Python. */
export const keywordPair: PairWriter = (name, value, { rules }) => rules.sequence(literal(`${name}=`), value);

function keyed(key: string, value: string, { rules }: SchemaContext): string {
  return rules.sequence(key, rules.colon, value);
}

/** Names that must be there, with those that others depend on. */
function requiredOf(schema: Schema, place: string): Set<string> {
  const required = new Set(nameList(schema.required, `${place}.required`));
  if (!isObject(schema.dependentRequired)) return required;
  for (const [name, needed] of Object.entries(schema.dependentRequired)) {
    for (const other of nameList(needed, `${place}.dependentRequired.${name}`)) required.add(other);
  }
  return required;
}

interface OtherProperties {
  /** What a property that is not named must be; undefined: there is none. */
  schema: AnySchema | undefined;
  pattern?: string;
}

function otherSchema(
  schema: Schema,
  properties: ReadonlyMap<string, AnySchema>,
  place: string,
): OtherProperties {
  const patterns = [...schemaMap(schema.patternProperties, `${place}.patternProperties`)];
  const [only] = patterns;
  if (only) {
    // Two patterns could hold for one key, and a pattern for a named one: such keys are not made.
    const isClear = patterns.length === 1 && ![...properties.keys()].some((name) => matches(only[0], name));
    return isClear ? { schema: only[1], pattern: only[0] } : { schema: undefined };
  }
  const { additionalProperties: additional } = schema;
  if (additional === undefined) {
    const isOpen = properties.size === 0 && schema.unevaluatedProperties !== false;
    return { schema: isOpen ? true : undefined };
  }
  return { schema: additional === false ? undefined : asSchema(additional, `${place}.additionalProperties`) };
}

function matches(pattern: string, name: string): boolean {
  try {
    return new RegExp(pattern, 'u').test(name);
  } catch {
    return true;
  }
}

function additionalPair(
  { propertyNames }: Schema,
  { schema, pattern }: OtherProperties,
  taken: readonly string[],
  writer: SchemaContext,
  place: string,
): string | undefined {
  if (schema === undefined || schema === false) return undefined;
  const value = writer.bodyOrNone(schema, `${place}.additionalProperties`);
  if (value === undefined) return undefined;
  if (pattern !== undefined) return keyed(keyLike(pattern, writer.rules), value, writer);
  if (propertyNames === undefined || propertyNames === true)
    return keyed(keyOtherThan(taken, writer.rules), value, writer);
  if (!isObject(propertyNames)) return undefined;
  const names = listedValues(propertyNames, `${place}.propertyNames`);
  if (names) {
    const free = names.filter((name) => typeof name === 'string' && !taken.includes(name));
    if (free.length === 0) return undefined;
    return keyed(
      prefixTree(
        free.map((name) => patternOf(JSON.stringify(name))),
        writer.rules.grammar,
      ),
      value,
      writer,
    );
  }
  const { pattern: namePattern } = propertyNames;
  if (typeof namePattern !== 'string') {
    const isAny = Object.keys(propertyNames).every((keyword) => keyword === 'type');
    if (!isAny) writer.refuse('propertyNames that are no pattern and no list', place);
    return keyed(keyOtherThan(taken, writer.rules), value, writer);
  }
  if (taken.some((name) => matches(namePattern, name))) return undefined;
  return keyed(keyLike(namePattern, writer.rules), value, writer);
}
