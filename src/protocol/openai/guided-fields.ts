import type { GuideWish } from '../../runtime/guidance/grammar/wish.ts';
import type { Guide } from '../../runtime/guidance/guide.ts';
import { ProtocolError } from '../errors.ts';
import { guideFor } from '../guides.ts';
import { unsupported } from './refused-fields.ts';
import type { GenerationFields } from './requests.ts';

/** The fields in which a request says what its answer must look like: OpenAI's, and vLLM's of two generations. */
export type GuidedFields = Pick<
  GenerationFields,
  | 'response_format'
  | 'structured_outputs'
  | 'guided_json'
  | 'guided_regex'
  | 'guided_choice'
  | 'guided_grammar'
  | 'structural_tag'
>;

/**
 * What a request's answer must look like; undefined where it may be any text.
 * @throws ProtocolError PARAMETER_INVALID, PARAMETER_UNSUPPORTED; also for two wishes at once
 */
export function guideOf(fields: GuidedFields): Guide | undefined {
  const wishes = [...wishesOf(fields)];
  const [wish, second] = wishes;
  if (!wish) return undefined;
  if (second) {
    const message = `'${wish.parameter}' and '${second.parameter}' both say what the answer must look like; send one`;
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: second.parameter });
  }
  return guideFor(wish.wish, wish.parameter);
}

interface NamedWish {
  parameter: string;
  wish: GuideWish;
}

function* wishesOf(fields: GuidedFields): Generator<NamedWish> {
  const format = fields.response_format && responseFormatWish(fields.response_format);
  if (format) yield { parameter: 'response_format', wish: format };
  if (fields.structured_outputs) yield* structuredOutputs(fields.structured_outputs);
  const { guided_json, guided_regex, guided_choice, guided_grammar, structural_tag } = fields;
  const given = { json: guided_json, regex: guided_regex, choice: guided_choice, grammar: guided_grammar };
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined) continue;
    yield { parameter: `guided_${name}`, wish: vllmWish(name, value, `guided_${name}`) };
  }
  if (structural_tag) {
    yield { parameter: 'structural_tag', wish: { kind: 'structural_tag', tag: structural_tag } };
  }
}

/** OpenAI's `response_format`. Without `strict` a schema is followed as far as a grammar can. */
function responseFormatWish(format: NonNullable<GuidedFields['response_format']>): GuideWish | undefined {
  switch (format.type) {
    case 'text':
      return undefined;
    case 'json_object':
      return { kind: 'json_object' };
    case 'json_schema':
      return schemaFormatWish(format.json_schema, 'response_format.json_schema');
    case 'structural_tag':
      return { kind: 'structural_tag', tag: format };
    default:
      throw unsupported(
        'response_format',
        `response_format '${format.type.slice(0, 40)}' is not supported; text, json_object, json_schema and structural_tag are`,
      );
  }
}

/** `{ name, schema, strict }`: of a chat's `response_format`. @throws ProtocolError PARAMETER_INVALID */
function schemaFormatWish(value: unknown, parameter: string): GuideWish {
  if (typeof value !== 'object' || value === null) {
    throw new ProtocolError('PARAMETER_INVALID', `${parameter} must be an object with a schema`, {
      parameter,
    });
  }
  const { schema, strict } = value as { schema?: unknown; strict?: unknown };
  if (schema === undefined || schema === null) return { kind: 'json_object' };
  return { kind: 'json_schema', schema, isLenient: strict !== true };
}

/** vLLM's `structured_outputs`. */
function* structuredOutputs(fields: Readonly<Record<string, unknown>>): Generator<NamedWish> {
  const whitespace = fields.disable_any_whitespace === true ? 'none' : 'flexible';
  for (const name of ['json', 'regex', 'choice', 'grammar', 'json_object', 'structural_tag']) {
    const value = fields[name];
    if (value === null || value === undefined || value === false) continue;
    const parameter = `structured_outputs.${name}`;
    yield { parameter, wish: { ...vllmWish(name, value, parameter), whitespace } as GuideWish };
  }
}

function vllmWish(name: string, value: unknown, parameter: string): GuideWish {
  const invalid = (what: string) =>
    new ProtocolError('PARAMETER_INVALID', `${parameter} must be ${what}`, { parameter });
  switch (name) {
    case 'json':
      return { kind: 'json_schema', schema: value };
    case 'json_object':
      return { kind: 'json_object' };
    case 'structural_tag':
      return { kind: 'structural_tag', tag: value };
    case 'choice':
      if (!Array.isArray(value) || !value.every((text) => typeof text === 'string'))
        throw invalid('a list of texts');
      return { kind: 'choice', choices: value };
    default:
      if (typeof value !== 'string') throw invalid('a text');
      return name === 'regex' ? { kind: 'regex', pattern: value } : { kind: 'grammar', grammar: value };
  }
}
