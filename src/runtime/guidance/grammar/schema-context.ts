import type { JsonRules } from './json-rules.ts';
import type { AnySchema } from './schema.ts';

/** What the parts of a schema's grammar need of the whole. */
export interface SchemaContext {
  readonly rules: JsonRules;
  /** A grammar cannot say it. @throws RuntimeError GRAMMAR_INVALID unless it may be left to the model */
  refuse(what: string, place: string): void;
  /** One schema for what satisfies both. @throws RuntimeError GRAMMAR_INVALID */
  merged(left: AnySchema, right: AnySchema, place: string): AnySchema;
  /** The body of a schema's values. @throws RuntimeError GRAMMAR_INVALID, also where nothing satisfies it */
  body(schema: AnySchema, place: string): string;
  /** As {@link body}; undefined where nothing satisfies the schema. */
  bodyOrNone(schema: AnySchema, place: string): string | undefined;
}
