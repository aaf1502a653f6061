import { grammarInvalid } from './grammar-text.ts';

/** A JSON schema as read: draft 4 to 2020-12. */
export type Schema = Readonly<Record<string, unknown>>;
/** A schema, or whether anything at all is valid. */
export type AnySchema = Schema | boolean;

/** The types of JSON schema. */
export const schemaTypes = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const;
/** One of {@link schemaTypes}. */
export type SchemaType = (typeof schemaTypes)[number];

/** Schemas within schemas, references included where they must be followed. */
export const schemaDepthMax = 100;

/** Whether a value is a schema. @throws RuntimeError GRAMMAR_INVALID */
export function asSchema(value: unknown, place: string): AnySchema {
  if (typeof value === 'boolean') return value;
  if (isObject(value)) return value;
  throw grammarInvalid('a schema must be an object or a boolean', place);
}

/** Whether a value is a JSON object. */
export function isObject(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A list of schemas: `anyOf` and the like. @throws RuntimeError GRAMMAR_INVALID */
export function schemaList(value: unknown, place: string): readonly AnySchema[] {
  if (!Array.isArray(value) || value.length === 0) throw grammarInvalid('must be a list of schemas', place);
  return value.map((each, index) => asSchema(each, `${place}[${index}]`));
}

/** Schemas by name: `properties`. @throws RuntimeError GRAMMAR_INVALID */
export function schemaMap(value: unknown, place: string): Map<string, AnySchema> {
  if (value === undefined) return new Map();
  if (!isObject(value)) throw grammarInvalid('must be an object of schemas', place);
  return new Map(Object.entries(value).map(([name, each]) => [name, asSchema(each, `${place}.${name}`)]));
}

/** Names: `required`. @throws RuntimeError GRAMMAR_INVALID */
export function nameList(value: unknown, place: string): readonly string[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value.every((name) => typeof name === 'string')) return value;
  // Draft 3 said it in the property itself.
  if (typeof value === 'boolean') return [];
  throw grammarInvalid('must be a list of names', place);
}

/** A number, or what stands for none. @throws RuntimeError GRAMMAR_INVALID */
export function numberOr<T>(value: unknown, otherwise: T, place: string): number | T {
  if (value === undefined || value === null) return otherwise;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw grammarInvalid('must be a number', place);
}

/** A count: `minItems`. @throws RuntimeError GRAMMAR_INVALID */
export function countOr(value: unknown, otherwise: number, place: string): number {
  const count = numberOr(value, otherwise, place);
  if (count >= 0 && (count === Number.POSITIVE_INFINITY || Number.isInteger(count))) return count;
  throw grammarInvalid('must be an integer from 0', place);
}

/** The types that a schema allows: those it names, or what its keywords are about; undefined for all. */
export function typesOf(schema: Schema, place: string): readonly SchemaType[] | undefined {
  const { type } = schema;
  if (type !== undefined) {
    const types: readonly unknown[] = Array.isArray(type) ? type : [type];
    for (const each of types) {
      if (!schemaTypes.includes(each as SchemaType)) {
        throw grammarInvalid(
          `there is no type '${String(each)}'; there are ${schemaTypes.join(', ')}`,
          place,
        );
      }
    }
    return types as SchemaType[];
  }
  const meant = Object.entries(impliedBy).filter(([, keywords]) =>
    keywords.some((keyword) => Object.hasOwn(schema, keyword)),
  );
  return meant.length === 0 ? undefined : meant.map(([each]) => each as SchemaType);
}

/** Keywords say nothing about other types, but who writes them means theirs. */
const impliedBy: Partial<Record<SchemaType, readonly string[]>> = {
  object: [
    'properties',
    'required',
    'additionalProperties',
    'patternProperties',
    'minProperties',
    'maxProperties',
    'propertyNames',
    'dependentRequired',
  ],
  array: ['items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems', 'contains'],
  string: ['pattern', 'format', 'minLength', 'maxLength'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
};

/** Whether a value is of one of some types. */
export function isOfType(value: unknown, types: readonly SchemaType[]): boolean {
  return types.some((type) => {
    if (type === 'null') return value === null;
    if (type === 'array') return Array.isArray(value);
    if (type === 'object') return isObject(value);
    if (type === 'integer') return Number.isInteger(value);
    return typeof value === type;
  });
}

/** Whether two values are the same JSON. */
export function sameJson(left: unknown, right: unknown): boolean {
  return canonical(left) === canonical(right);
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (!isObject(value)) return JSON.stringify(value) ?? 'undefined';
  const entries = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${entries.join(',')}}`;
}

/** The values that a schema lists, as `enum` or `const`; undefined if it lists none. */
export function listedValues(schema: Schema, place: string): readonly unknown[] | undefined {
  if (Object.hasOwn(schema, 'const')) return [schema.const];
  if (schema.enum === undefined) return undefined;
  if (Array.isArray(schema.enum) && schema.enum.length > 0) return schema.enum;
  throw grammarInvalid('an enum must list values', place);
}

/** Follows `#/a/b`. @throws RuntimeError GRAMMAR_INVALID for other references, and for what is not there */
export function resolveReference(root: AnySchema, reference: unknown, place: string): AnySchema {
  if (typeof reference !== 'string') throw grammarInvalid("a '$ref' must be a text", place);
  if (reference === '#' || reference === '#/') return root;
  if (!reference.startsWith('#/')) {
    throw grammarInvalid(
      `'$ref' to '${reference.slice(0, 80)}': only references into the schema itself ('#/…') are followed`,
      place,
    );
  }
  let found: unknown = root;
  for (const part of reference.slice(2).split('/')) {
    const key = decodedPointer(part);
    const isThere = typeof found === 'object' && found !== null && Object.hasOwn(found, key);
    if (!isThere) throw grammarInvalid(`'$ref' to '${reference.slice(0, 80)}', which is not there`, place);
    found = (found as Record<string, unknown>)[key];
  }
  return asSchema(found, reference);
}

function decodedPointer(part: string): string {
  const text = part.replaceAll('~1', '/').replaceAll('~0', '~');
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
