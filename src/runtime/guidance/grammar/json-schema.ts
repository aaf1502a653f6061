import { GrammarText, grammarInvalid, oneOf } from './grammar-text.ts';
import { JsonRules, type JsonWhitespace } from './json-rules.ts';
import { integerBody, type NumberBounds, numberBody } from './numbers.ts';
import { patternOf, prefixTree } from './prefix-tree.ts';
import {
  type AnySchema,
  asSchema,
  isOfType,
  listedValues,
  numberOr,
  resolveReference,
  type Schema,
  type SchemaType,
  schemaDepthMax,
  schemaList,
  typesOf,
} from './schema.ts';
import { arrayBody } from './schema-arrays.ts';
import { conditionalSchema, withoutNot } from './schema-conditions.ts';
import type { SchemaContext } from './schema-context.ts';
import { keywordPair, membersOf } from './schema-members.ts';
import { areDisjoint, mergeSchemas } from './schema-merge.ts';
import { objectBody, pairsBody } from './schema-objects.ts';
import { stringBody } from './schema-strings.ts';

/** `keywords`: as Python passes them, `name=value, name=value`. */
export type ArgumentsWriting = 'keywords';

/** How a schema becomes a grammar. */
export interface JsonSchemaOptions {
  /** Leaves out what a grammar cannot say, instead of refusing it by name. Default false. */
  isLenient?: boolean;
  whitespace?: JsonWhitespace;
  /** Writes the pairs of an object otherwise. Default: as JSON. */
  writes?: ArgumentsWriting | undefined;
}

/** Values that a multipleOf may choose among. */
const multiplesMax = 1_000;

/** Keywords that say nothing about which values are valid, or what is said elsewhere. */
const remarks: readonly string[] = [
  '$schema',
  '$id',
  'id',
  '$anchor',
  '$comment',
  '$defs',
  'definitions',
  'title',
  'description',
  'default',
  'examples',
  'example',
  'deprecated',
  'readOnly',
  'writeOnly',
  'nullable',
  'discriminator',
  'xml',
  'externalDocs',
];

/**
 * A grammar of JSON that satisfies a schema: all of it is valid, though not all that is valid is in it. Properties come in the schema's order, those
 * that it does not name only where it allows them by word, and numbers, space and formats are written the usual way.
 * @throws RuntimeError GRAMMAR_INVALID naming the place
 */
export function jsonSchemaGrammar(schema: AnySchema, options: JsonSchemaOptions = {}): string {
  const grammar = new GrammarText();
  return grammar.text(schemaBody(schema, grammar, options));
}

/** As {@link jsonSchemaGrammar}: a body among others. */
export function schemaBody(schema: AnySchema, grammar: GrammarText, options: JsonSchemaOptions): string {
  const writer = new SchemaWriter(schema, grammar, options);
  return options.writes === 'keywords' ? writer.keywords(schema) : writer.body(schema, '');
}

class SchemaWriter implements SchemaContext {
  readonly rules: JsonRules;
  readonly #root: AnySchema;
  readonly #isLenient: boolean;
  /** By reference: its rule, which may be on its way. */
  readonly #references = new Map<string, { name: string; isWritten: boolean; isRead: boolean }>();
  #depth = 0;

  constructor(
    root: AnySchema,
    grammar: GrammarText,
    { isLenient = false, whitespace = 'flexible' }: JsonSchemaOptions,
  ) {
    this.#root = root;
    this.#isLenient = isLenient;
    this.rules = new JsonRules(grammar, whitespace);
  }

  /** A grammar cannot say it: refused by name, or left to the model. */
  readonly refuse = (what: string, place: string): void => {
    if (this.#isLenient) return;
    throw grammarInvalid(`${what} cannot be held by a grammar; leave it out, or ask without strict`, place);
  };

  /** One schema for what satisfies both. */
  merged(left: AnySchema, right: AnySchema, place: string): AnySchema {
    return mergeSchemas(left, right, this.#root, place);
  }

  /** An object's pairs as keyword arguments; only of an object's schema, references followed. */
  keywords(schema: AnySchema): string {
    const whole = this.merged(schema, { type: 'object' }, '');
    if (typeof whole === 'boolean') throw grammarInvalid('nothing satisfies the schema');
    return pairsBody(membersOf(whole, this, '', keywordPair), this.rules, '');
  }

  /** The body of a schema's values. @throws RuntimeError GRAMMAR_INVALID */
  body(schema: AnySchema, place: string): string {
    const body = this.bodyOrNone(schema, place);
    if (body === undefined) throw grammarInvalid('nothing satisfies the schema', place);
    return body;
  }

  /** As {@link body}; undefined where nothing satisfies the schema. */
  bodyOrNone(schema: AnySchema, place: string): string | undefined {
    if (schema === true) return this.rules.value;
    if (schema === false) return undefined;
    if (this.#depth++ > schemaDepthMax)
      throw grammarInvalid(`schemas are nested over ${schemaDepthMax} deep`, place);
    try {
      return this.#written(schema, place);
    } finally {
      this.#depth--;
    }
  }

  #written(schema: Schema, place: string): string | undefined {
    if (schema.$ref !== undefined) return this.#referred(schema, place);
    if (schema.$dynamicRef !== undefined || schema.$recursiveRef !== undefined)
      throw grammarInvalid("only '$ref' is followed, no dynamic reference", place);
    if (schema.allOf !== undefined) {
      const { allOf, ...own } = schema;
      const parts = schemaList(allOf, `${place}.allOf`);
      return this.bodyOrNone(
        parts.reduce((left, right) => this.merged(left, right, place), this.#bare(own)),
        place,
      );
    }
    for (const keyword of ['anyOf', 'oneOf'] as const) {
      if (schema[keyword] !== undefined) return this.#union(schema, keyword, place);
    }
    if (
      schema.if !== undefined ||
      schema.dependentSchemas !== undefined ||
      schema.dependencies !== undefined
    ) {
      return this.bodyOrNone(conditionalSchema(schema, this, place), place);
    }
    if (schema.not !== undefined) return this.bodyOrNone(withoutNot(schema, this, place), place);
    const listed = listedValues(schema, place);
    return listed ? this.#listed(schema, listed, place) : this.#typed(schema, place);
  }

  /** Whether anything but remarks is left. */
  #bare(schema: Schema): AnySchema {
    return Object.keys(schema).every((keyword) => remarks.includes(keyword)) ? true : schema;
  }

  #referred(schema: Schema, place: string): string | undefined {
    const { $ref, ...own } = schema;
    const target = resolveReference(this.#root, $ref, place);
    if (this.#bare(own) !== true) return this.bodyOrNone(this.merged(own, target, place), place);
    const key = String($ref);
    const known = this.#references.get(key);
    if (known) {
      if (!known.isWritten && !known.isRead)
        throw grammarInvalid(`'$ref' to '${key}' refers to nothing but itself`, place);
      return known.name;
    }
    const entry = { name: this.rules.grammar.reserve(), isWritten: false, isRead: false };
    this.#references.set(key, entry);
    // A reference that is reached again only behind a sign of an object or an array is no circle.
    entry.isRead = target === true || (target !== false && target.$ref === undefined);
    const body = this.bodyOrNone(target, key);
    if (body === undefined) {
      this.#references.delete(key);
      return undefined;
    }
    this.rules.grammar.define(entry.name, body);
    entry.isWritten = true;
    return entry.name;
  }

  #union(schema: Schema, keyword: 'anyOf' | 'oneOf', place: string): string | undefined {
    const { [keyword]: listed, ...own } = schema;
    const branches = schemaList(listed, `${place}.${keyword}`);
    if (keyword === 'oneOf') this.#checkDisjoint(branches, place);
    const base = this.#bare(own);
    const bodies: string[] = [];
    for (const [index, branch] of branches.entries()) {
      const at = `${place}.${keyword}[${index}]`;
      const body = this.bodyOrNone(base === true ? branch : this.merged(base, branch, at), at);
      if (body !== undefined) bodies.push(body);
    }
    return bodies.length === 0 ? undefined : this.rules.grammar.rule(oneOf(bodies));
  }

  #checkDisjoint(branches: readonly AnySchema[], place: string): void {
    for (const [index, left] of branches.entries()) {
      for (const right of branches.slice(index + 1)) {
        if (areDisjoint(left, right, this.#root, place)) continue;
        this.refuse('oneOf whose alternatives may hold at once (anyOf can be)', place);
        return;
      }
    }
  }

  #listed(schema: Schema, listed: readonly unknown[], place: string): string | undefined {
    const types = schema.type === undefined ? undefined : typesOf(schema, place);
    const values = listed.filter((value) => !types || isOfType(value, types));
    if (values.length === 0) return undefined;
    return this.rules.grammar.rule(
      prefixTree(
        values.map((value) => patternOf(JSON.stringify(value))),
        this.rules.grammar,
      ),
    );
  }

  #typed(schema: Schema, place: string): string | undefined {
    const types = typesOf(schema, place);
    if (!types) return this.rules.value;
    const bodies = types
      .map((type) => this.#ofType(schema, type, place))
      .filter((body) => body !== undefined);
    return bodies.length === 0 ? undefined : oneOf(bodies);
  }

  #ofType(schema: Schema, type: SchemaType, place: string): string | undefined {
    switch (type) {
      case 'null':
        return '"null"';
      case 'boolean':
        return this.rules.grammar.rule('"true" | "false"');
      case 'string':
        return stringBody(schema, this.rules, place, (what) => this.refuse(what, place));
      case 'integer':
      case 'number':
        return this.#number(schema, type, place);
      case 'array':
        return arrayBody(schema, this, place);
      case 'object':
        return objectBody(membersOf(schema, this, place), this.rules, place);
    }
  }

  #number(schema: Schema, type: 'integer' | 'number', place: string): string | undefined {
    const bounds = boundsOf(schema, place);
    const multiple = numberOr(schema.multipleOf, undefined, `${place}.multipleOf`);
    if (multiple !== undefined && !(multiple === 1 && type === 'integer'))
      return this.#multiples(multiple, type, bounds, place);
    if (bounds.min === Number.NEGATIVE_INFINITY && bounds.max === Number.POSITIVE_INFINITY) {
      return type === 'integer' ? this.rules.integer : this.rules.number;
    }
    const body =
      type === 'integer' ? integerBody(bounds, this.rules.grammar) : numberBody(bounds, this.rules.grammar);
    return body && this.rules.grammar.rule(body);
  }

  /** The first multiples in bounds, away from zero where it may be. */
  #multiples(
    multiple: number,
    type: 'integer' | 'number',
    bounds: NumberBounds,
    place: string,
  ): string | undefined {
    if (!(multiple > 0)) throw grammarInvalid('multipleOf must be over 0', place);
    const { min, max, isMinOpen, isMaxOpen } = bounds;
    const start = min > 0 || max < 0 ? (min > 0 ? Math.ceil(min / multiple) : Math.floor(max / multiple)) : 0;
    const step = max < 0 ? -1 : 1;
    const values: string[] = [];
    for (let tried = 0; tried < 4 * multiplesMax && values.length < multiplesMax; tried++) {
      const value = Number(((start + step * tried) * multiple).toPrecision(15));
      if (value > max || value < min) break;
      if ((isMinOpen && value === min) || (isMaxOpen && value === max)) continue;
      const isWhole = Number.isInteger(value / multiple) && (type === 'number' || Number.isInteger(value));
      if (isWhole && !/e/.test(String(value))) values.push(String(value));
    }
    return values.length === 0 ? undefined : prefixTree(values.map(patternOf), this.rules.grammar);
  }
}

function boundsOf(schema: Schema, place: string): NumberBounds {
  const bounds: NumberBounds = {
    min: Number.NEGATIVE_INFINITY,
    max: Number.POSITIVE_INFINITY,
    isMinOpen: false,
    isMaxOpen: false,
  };
  bounds.min = numberOr(schema.minimum, bounds.min, `${place}.minimum`);
  bounds.max = numberOr(schema.maximum, bounds.max, `${place}.maximum`);
  // Draft 4 said it with a boolean.
  bounds.isMinOpen = schema.exclusiveMinimum === true;
  bounds.isMaxOpen = schema.exclusiveMaximum === true;
  if (typeof schema.exclusiveMinimum === 'number' && schema.exclusiveMinimum >= bounds.min) {
    bounds.min = schema.exclusiveMinimum;
    bounds.isMinOpen = true;
  }
  if (typeof schema.exclusiveMaximum === 'number' && schema.exclusiveMaximum <= bounds.max) {
    bounds.max = schema.exclusiveMaximum;
    bounds.isMaxOpen = true;
  }
  return bounds;
}

/** A schema from JSON text. @throws RuntimeError GRAMMAR_INVALID */
export function parseSchema(text: string): AnySchema {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw grammarInvalid('the schema is not valid JSON');
  }
  return asSchema(value, '');
}
