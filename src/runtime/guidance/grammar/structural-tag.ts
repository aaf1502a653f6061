import { grammarInvalid } from './grammar-text.ts';
import { jsonSchemaGrammar } from './json-schema.ts';
import { regexGrammar } from './regex.ts';
import { asSchema, isObject } from './schema.ts';

/** Formats in formats. */
const depthMax = 32;

/** A part of a structural tag, in xgrammar's words: free text, texts, grammars, and how they follow each other. */
export type TagFormat = Readonly<Record<string, unknown>> & { readonly type: string };

/** A part that a grammar describes. */
export function grammarFormat(grammar: string): TagFormat {
  return { type: 'grammar', grammar };
}

/** A structural tag's JSON around a format. */
export function structuralTagOf(format: TagFormat): string {
  return JSON.stringify({ type: 'structural_tag', format });
}

/**
 * A client's structural tag: `{ format }` or the older `{ structures, triggers }`, as JSON text or as a value. Its schemas and regexes become our
 * grammars: xgrammar's own reading of schemas is loose.
 * @throws RuntimeError GRAMMAR_INVALID
 */
export function structuralTag(tag: unknown): string {
  const value = typeof tag === 'string' ? parsed(tag) : tag;
  if (!isObject(value)) throw grammarInvalid('a structural tag must be an object');
  if (Array.isArray(value.structures)) return structuralTagOf(olderTag(value.structures, value.triggers));
  return structuralTagOf(readFormat(value.format, 'format', 0));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw grammarInvalid('the structural tag is not valid JSON');
  }
}

function olderTag(structures: readonly unknown[], triggers: unknown): TagFormat {
  const tags = structures.map((structure, index) => {
    if (!isObject(structure)) throw grammarInvalid('must be an object', `structures[${index}]`);
    const schema = asSchema(structure.schema, `structures[${index}].schema`);
    return {
      type: 'tag',
      begin: structure.begin,
      content: grammarFormat(jsonSchemaGrammar(schema)),
      end: structure.end,
    };
  });
  return { type: 'triggered_tags', triggers, tags };
}

function readFormat(format: unknown, place: string, depth: number): TagFormat {
  if (depth > depthMax) throw grammarInvalid(`formats are nested over ${depthMax} deep`, place);
  if (!isObject(format) || typeof format.type !== 'string')
    throw grammarInvalid('must be an object with a type', place);
  const inner = (value: unknown, name: string): TagFormat => readFormat(value, `${place}.${name}`, depth + 1);
  const all = (value: unknown, name: string): TagFormat[] => {
    if (!Array.isArray(value)) throw grammarInvalid('must be a list', `${place}.${name}`);
    return value.map((each, index) => inner(each, `${name}[${index}]`));
  };
  switch (format.type) {
    case 'json_schema':
      return grammarFormat(jsonSchemaGrammar(asSchema(format.json_schema, `${place}.json_schema`)));
    case 'regex':
      if (typeof format.pattern !== 'string') throw grammarInvalid('must be a text', `${place}.pattern`);
      return grammarFormat(regexGrammar(format.pattern));
    case 'const_string':
    case 'any_text':
    case 'grammar':
    case 'qwen_xml_parameter':
      return format as TagFormat;
    case 'sequence':
    case 'or':
      return { ...format, type: format.type, elements: all(format.elements, 'elements') };
    case 'tag':
      return { ...format, type: format.type, content: inner(format.content, 'content') };
    case 'triggered_tags':
    case 'tags_with_separator':
      return { ...format, type: format.type, tags: all(format.tags, 'tags') };
    default:
      throw grammarInvalid(`there is no format '${format.type.slice(0, 40)}'`, place);
  }
}
