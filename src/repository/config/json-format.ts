import { RepositoryError } from '../errors.ts';
import type { FieldSchema, MessageSchema } from './schema.ts';
import { configDepthMax, type TextMessage, type TextValue } from './text-format.ts';

/**
 * Protobuf's JSON form as the tree that the text format gives, so that one reader checks both: snake_case or camelCase names, 64-bit
 * numbers as numbers or texts, null for a default.
 * @throws RepositoryError INVALID_ARGUMENT
 */
export function jsonAsText(value: unknown, schema: MessageSchema, depth = 0): TextMessage {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new RepositoryError('INVALID_ARGUMENT', `${schema.name} must be a JSON object`);
  }
  if (depth > configDepthMax) {
    throw new RepositoryError('INVALID_ARGUMENT', `the configuration nests deeper than ${configDepthMax}`);
  }
  const fields = new Map<string, TextValue[]>();
  for (const [key, given] of Object.entries(value)) {
    if (given === null) continue;
    const name = Object.hasOwn(schema.fields, key) ? key : snakeCase(key);
    const field = Object.hasOwn(schema.fields, name) ? schema.fields[name] : undefined;
    // Unknown names stay, so that the reader names them.
    fields.set(name, field ? fieldValues(name, field, given, depth) : []);
  }
  return { kind: 'message', fields, ...nowhere };
}

const nowhere = { line: 1, column: 1 };

function fieldValues(name: string, field: FieldSchema, given: unknown, depth: number): TextValue[] {
  if (field.label === 'repeated') {
    // One value is as good as a list of it.
    const list = Array.isArray(given) ? given : [given];
    return list.map((one) => valueAsText(name, field, one, depth));
  }
  if (field.label === 'map') {
    if (typeof given !== 'object' || Array.isArray(given)) throw invalid(name, 'must be an object');
    return Object.entries(given as object).map(([key, one]) => ({
      kind: 'message',
      fields: new Map<string, TextValue[]>([
        ['key', [{ kind: 'string', text: key, ...nowhere }]],
        ['value', [valueAsText(name, field, one, depth)]],
      ]),
      ...nowhere,
    }));
  }
  return [valueAsText(name, field, given, depth)];
}

function valueAsText(name: string, { type }: FieldSchema, given: unknown, depth: number): TextValue {
  if (typeof type === 'object' && type.kind === 'message') return jsonAsText(given, type, depth + 1);
  if (typeof given === 'boolean') return { kind: 'name', text: String(given), ...nowhere };
  if (typeof given === 'number') return { kind: 'number', text: plain(given), ...nowhere };
  if (typeof given !== 'string') throw invalid(name, 'has a value of the wrong type');
  // So it reads a truth.
  if (type === 'bool' && (given === 'true' || given === 'false'))
    return { kind: 'name', text: given, ...nowhere };
  const isText = type === 'string' || typeof type === 'object';
  // Protobuf writes 64-bit numbers as texts.
  return { kind: isText || !/^-?\d+$/.test(given) ? 'string' : 'number', text: given, ...nowhere };
}

/** 3.0 is as good as 3 in JSON. */
function plain(value: number): string {
  return Number.isSafeInteger(value) ? value.toFixed(0) : String(value);
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function invalid(name: string, problem: string): RepositoryError {
  return new RepositoryError('INVALID_ARGUMENT', `"${name}" of the configuration ${problem}`);
}
