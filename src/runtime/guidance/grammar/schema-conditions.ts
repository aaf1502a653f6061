import {
  type AnySchema,
  asSchema,
  isObject,
  listedValues,
  nameList,
  type Schema,
  sameJson,
  schemaMap,
  typesOf,
} from './schema.ts';
import type { SchemaContext } from './schema-context.ts';

/**
 * A schema without `if` and dependencies that is satisfied by less: both what the condition says and what follows from it, or, where the condition
 * is about one listed property, the other values of that and what follows from those. What a property depends on is always there.
 */
export function conditionalSchema(schema: Schema, writer: SchemaContext, place: string): AnySchema {
  const {
    if: condition,
    then: consequence = true,
    else: otherwise = true,
    dependentSchemas,
    dependencies,
    ...own
  } = schema;
  let base: AnySchema = own;
  for (const map of [dependentSchemas, dependencies]) {
    if (!isObject(map)) continue;
    for (const [name, needed] of Object.entries(map)) {
      const isNames = Array.isArray(needed);
      base = writer.merged(
        base,
        isNames ? { required: nameList(needed, `${place}.${name}`) } : asSchema(needed, `${place}.${name}`),
        place,
      );
    }
  }
  if (condition === undefined) return base;
  const follows = [asSchema(consequence, `${place}.then`), asSchema(otherwise, `${place}.else`)] as const;
  const met = { allOf: [base, required(asSchema(condition, `${place}.if`)), follows[0]] };
  const unmet = without(condition, own, place);
  if (!unmet) {
    writer.refuse("'if' about more than one listed property", place);
    return base;
  }
  return { anyOf: [met, { allOf: [base, unmet, follows[1]] }] };
}

/** A condition about a property holds where there is none; what is generated says it outright. */
function required(condition: AnySchema): AnySchema {
  if (typeof condition === 'boolean' || !isObject(condition.properties)) return condition;
  return {
    ...condition,
    required: [...new Set([...nameList(condition.required, ''), ...Object.keys(condition.properties)])],
  };
}

/** What does not satisfy a condition `{ properties: { name: { const } } }`, where the schema lists the property's values. */
function without(condition: unknown, schema: Schema, place: string): AnySchema | undefined {
  if (!isObject(condition) || !isObject(condition.properties)) return undefined;
  const [named, ...others] = Object.entries(condition.properties);
  if (!named || others.length > 0) return undefined;
  const [name, value] = named;
  const excluded = isObject(value) ? listedValues(value, place) : undefined;
  const declared = schemaMap(schema.properties, place).get(name);
  if (!excluded || declared === undefined || typeof declared === 'boolean') return undefined;
  const values = listedValues(declared, place) ?? (declared.type === 'boolean' ? [true, false] : undefined);
  const left = values?.filter((each) => !excluded.some((out) => sameJson(each, out)));
  if (!left) return undefined;
  return left.length === 0 ? false : { properties: { [name]: { enum: left } }, required: [name] };
}

/** A schema without its `not`, where that takes types, listed values or a property away. */
export function withoutNot(schema: Schema, writer: SchemaContext, place: string): AnySchema {
  const { not, ...own } = schema;
  const denied = asSchema(not, `${place}.not`);
  if (denied === false) return own;
  if (denied === true) return false;
  const keywords = Object.keys(denied);
  const listed = listedValues(denied, place);
  const ownValues = listedValues(own, place);
  if (listed && keywords.length === 1 && ownValues) {
    const { const: _, ...rest } = own;
    const left = ownValues.filter((value) => !listed.some((out) => sameJson(value, out)));
    return left.length === 0 ? false : { ...rest, enum: left };
  }
  if (keywords.length === 1 && denied.type !== undefined) {
    const out = typesOf(denied, place) ?? [];
    const all = typesOf(own, place) ?? (['object', 'array', 'string', 'number', 'boolean', 'null'] as const);
    const left = all.filter((type) => !out.includes(type) && !(type === 'integer' && out.includes('number')));
    if (!(out.includes('integer') && left.includes('number')))
      return left.length === 0 ? false : { ...own, type: left };
  }
  const names = nameList(denied.required, place);
  if (keywords.length === 1 && names.length === 1) {
    return {
      ...own,
      properties: { ...(isObject(own.properties) ? own.properties : {}), [names[0] as string]: false },
    };
  }
  writer.refuse("this 'not'", place);
  return own;
}
