import { RepositoryError } from '../errors.ts';
import { jsonAsText } from './json-format.ts';
import { type FieldSchema, type MessageSchema, modelConfigSchema, type ScalarType } from './schema.ts';
import { parseTextFormat, type TextMessage, type TextScalar, type TextValue } from './text-format.ts';
import { textError } from './text-tokens.ts';
import type { ModelConfig } from './types.ts';

/**
 * A config.pbtxt as a {@link ModelConfig} with protobuf's defaults filled in. What the file leaves to the server (version policy,
 * instances, …) is `complete.ts`'s.
 * @throws RepositoryError INVALID_ARGUMENT `line:column: …`, in protobuf's words
 */
export function readConfigText(text: string): ModelConfig {
  return readMessage(parseTextFormat(text), modelConfigSchema) as unknown as ModelConfig;
}

/**
 * The same from protobuf's JSON form (the `config` of a load request).
 * @throws RepositoryError INVALID_ARGUMENT
 */
export function readConfigJson(text: string): ModelConfig {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const message = `failed to parse the config as JSON: ${(cause as Error).message}`;
    throw new RepositoryError('INVALID_ARGUMENT', message, { cause });
  }
  return readMessage(jsonAsText(value, modelConfigSchema), modelConfigSchema) as unknown as ModelConfig;
}

/** An empty configuration: every default, as an empty file gives. */
export function emptyConfig(): ModelConfig {
  return readConfigText('');
}

function readMessage(source: TextMessage, schema: MessageSchema): Record<string, unknown> {
  const chosen = new Map<string, string>();
  for (const [name, values] of source.fields) {
    const field = Object.hasOwn(schema.fields, name) ? schema.fields[name] : undefined;
    const place = values[0] ?? source;
    if (!field) throw textError(place, `Message type "${schema.name}" has no field named "${name}".`);
    if (!field.label && values.length > 1) {
      throw textError(values[1] as TextValue, `Non-repeated field "${name}" is specified multiple times.`);
    }
    if (!field.oneOf) continue;
    const other = chosen.get(field.oneOf);
    if (other !== undefined) {
      const group = `another member of oneof "${field.oneOf}"`;
      throw textError(place, `Field "${name}" is specified along with field "${other}", ${group}.`);
    }
    chosen.set(field.oneOf, name);
  }
  const message: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(schema.fields)) {
    const value = readField(name, field, source.fields.get(name) ?? []);
    if (value !== undefined) message[name] = value;
  }
  return message;
}

/** A field's value, or its default; messages and members of a oneof have none. */
function readField(name: string, field: FieldSchema, values: readonly TextValue[]): unknown {
  if (field.label === 'repeated') return values.map((value) => readValue(name, field.type, value));
  if (field.label === 'map') return readMap(name, field, values);
  const [value] = values;
  if (value) return readValue(name, field.type, value);
  if (field.oneOf) return undefined;
  if (typeof field.type === 'object') return field.type.kind === 'enum' ? field.type.values[0] : undefined;
  return field.type === 'string' ? '' : field.type === 'bool' ? false : 0;
}

function readMap(name: string, field: FieldSchema, entries: readonly TextValue[]): Record<string, unknown> {
  const map: [string, unknown][] = [];
  for (const entry of entries) {
    if (entry.kind !== 'message') throw textError(entry, `Expected "{", found "${entry.text}".`);
    const key = entry.fields.get('key')?.[0];
    const value = entry.fields.get('value')?.[0];
    if (key?.kind === 'message') throw textError(key, `the key of an entry of "${name}" must be a string`);
    const missing: TextMessage = {
      kind: 'message',
      fields: new Map(),
      line: entry.line,
      column: entry.column,
    };
    const isMessage = typeof field.type === 'object' && field.type.kind === 'message';
    const read = value || isMessage ? readValue(name, field.type, value ?? missing) : '';
    map.push([key?.text ?? '', read]);
  }
  return Object.fromEntries(map);
}

function readValue(name: string, type: FieldSchema['type'], value: TextValue): unknown {
  if (typeof type === 'object' && type.kind === 'message') {
    if (value.kind !== 'message') throw textError(value, `Expected "{", found "${value.text}".`);
    return readMessage(value, type);
  }
  if (value.kind === 'message') throw textError(value, `field "${name}" takes no message`);
  if (typeof type === 'object') {
    const found = value.kind === 'number' ? type.values[Number(value.text)] : undefined;
    if (found) return found;
    if (value.kind !== 'number' && Object.values(type.values).includes(value.text)) return value.text;
    throw textError(value, `Unknown enumeration value of "${value.text}" for field "${name}".`);
  }
  return readScalar(name, type, value);
}

const truths: Readonly<Record<string, boolean>> = {
  true: true,
  True: true,
  t: true,
  '1': true,
  false: false,
  False: false,
  f: false,
  '0': false,
};

const ranges: Readonly<Record<Exclude<ScalarType, 'string' | 'bool' | 'float'>, readonly [number, number]>> =
  {
    int32: [-(2 ** 31), 2 ** 31 - 1],
    // 64-bit fields of real configurations are small; what a number cannot hold exactly is refused.
    int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    uint32: [0, 2 ** 32 - 1],
    uint64: [0, Number.MAX_SAFE_INTEGER],
  };

function readScalar(name: string, type: ScalarType, value: TextScalar): unknown {
  const { kind, text } = value;
  if (type === 'string') {
    if (kind !== 'string') throw textError(value, `Expected string, got: ${text}`);
    return text;
  }
  if (type === 'bool') {
    const truth = kind === 'string' ? undefined : truths[text];
    if (truth === undefined) {
      throw textError(value, `Invalid value for boolean field "${name}". Value: "${text}".`);
    }
    return truth;
  }
  const parsed = kind === 'string' ? Number.NaN : Number(text.replace(/^(-?[0-9.].*[0-9.])[fF]$/, '$1'));
  if (type === 'float') {
    if (Number.isFinite(parsed)) return parsed;
    throw textError(value, `Expected double, got: ${text}`);
  }
  const [low, high] = ranges[type];
  if (!Number.isInteger(parsed) || /[.eE]/.test(text.replace(/^0x.*/i, ''))) {
    throw textError(value, `Expected integer, got: ${text}`);
  }
  if (parsed < low || parsed > high) throw textError(value, `Integer out of range (${text})`);
  return parsed;
}
