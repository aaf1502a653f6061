import { RuntimeError } from '../../errors.ts';
import type { Guide } from '../guide.ts';
import { choiceGrammar } from './choice.ts';
import type { JsonWhitespace } from './json-rules.ts';
import { jsonSchemaGrammar, parseSchema } from './json-schema.ts';
import { regexGrammar } from './regex.ts';
import { asSchema } from './schema.ts';
import { structuralTag } from './structural-tag.ts';

/** UTF-16 units of a schema, a grammar or a structural tag as a client sends it. */
export const guideTextLengthMax = 256 * 1024;

/** What an answer must look like, as the protocols have it. */
export type GuideWish =
  | { kind: 'json_object'; whitespace?: JsonWhitespace }
  /** A schema as JSON text or as a value. Lenient: what a grammar cannot say is left to the model. */
  | { kind: 'json_schema'; schema: unknown; isLenient?: boolean; whitespace?: JsonWhitespace }
  | { kind: 'regex'; pattern: string }
  | { kind: 'choice'; choices: readonly string[] }
  /** EBNF with a rule `root`. */
  | { kind: 'grammar'; grammar: string }
  /** xgrammar's, as JSON text or as a value. */
  | { kind: 'structural_tag'; tag: unknown };

/** Any object: what `json_object` asks for. */
const anyObject = { type: 'object' } as const;

/** A wish as engines take it. @throws RuntimeError GRAMMAR_INVALID for one that cannot be made into a grammar */
export function guideOfWish(wish: GuideWish): Guide {
  switch (wish.kind) {
    case 'json_object':
      return { kind: 'grammar', source: jsonSchemaGrammar(anyObject, { whitespace: wish.whitespace }) };
    case 'json_schema': {
      const { schema, isLenient, whitespace } = wish;
      const parsed = typeof schema === 'string' ? parseSchema(bounded(schema)) : asSchema(schema, '');
      return { kind: 'grammar', source: jsonSchemaGrammar(parsed, { isLenient, whitespace }) };
    }
    case 'regex':
      return { kind: 'grammar', source: regexGrammar(wish.pattern) };
    case 'choice':
      return { kind: 'grammar', source: choiceGrammar(wish.choices) };
    case 'grammar':
      return { kind: 'grammar', source: bounded(wish.grammar) };
    case 'structural_tag':
      return { kind: 'structural_tag', source: structuralTag(wish.tag) };
  }
}

function bounded(text: string): string {
  if (text.length <= guideTextLengthMax) return text;
  const problem = `it has ${text.length} characters; at most ${guideTextLengthMax} are taken`;
  throw new RuntimeError('GRAMMAR_INVALID', problem);
}
