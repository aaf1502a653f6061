import { RepositoryError } from '../../repository/errors.ts';
import { type Json, type JsonObject, WrittenDouble } from './json-parser.ts';

/**
 * Typed reading of parsed JSON. What does not fit is refused as tritonserver does: status INTERNAL and a text about the type, behind
 * what was being parsed.
 */

function wrong(what: string, as: string): RepositoryError {
  return new RepositoryError('INTERNAL', `attempt to access JSON non-${what} as ${as}`);
}

/** A text. */
export function asString(value: Json): string {
  if (typeof value !== 'string') throw wrong('string', 'string');
  return value;
}

/** A truth value. */
export function asBoolean(value: Json): boolean {
  if (typeof value !== 'boolean') throw wrong('boolean', 'boolean');
  return value;
}

/** int64 */
export function asInteger(value: Json): number | bigint {
  const fits =
    typeof value === 'bigint' ? value < 2n ** 63n : typeof value === 'number' && Number.isInteger(value);
  if (!fits) throw wrong('signed-integer', 'signed-integer');
  return value as number | bigint;
}

/** uint64 */
export function asUnsigned(value: Json): number | bigint {
  const fits = typeof value === 'bigint' ? value >= 0n : Number.isInteger(value) && (value as number) >= 0;
  if (!fits) throw wrong('unsigned-integer', 'unsigned-integer');
  return value as number | bigint;
}

/** Any number. */
export function asDouble(value: Json): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof WrittenDouble) return value.value;
  throw wrong('number', 'double');
}

/** A list. */
export function asArray(value: Json): Json[] {
  if (!Array.isArray(value)) throw wrong('array', 'array');
  return value;
}

/** The members of an object that may be absent from a request; a value of another type has none. */
export function objectOf(value: Json | undefined): JsonObject | undefined {
  return value instanceof Map ? value : undefined;
}

/** All members, to go through them. */
export function membersOf(value: Json): JsonObject {
  if (!(value instanceof Map)) throw new RepositoryError('INTERNAL', 'attempt to get members for non-object');
  return value;
}

/** A member that must be there. */
export function memberOf(value: Json, name: string): Json {
  const member = objectOf(value)?.get(name);
  if (member === undefined) {
    throw new RepositoryError('INTERNAL', `attempt to access non-existing object member '${name}'`);
  }
  return member;
}

/** Runs `read`; puts `prefix` and a colon in front of what it refuses. */
export function prefixed<T>(prefix: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof RepositoryError) {
      throw new RepositoryError(error.status, `${prefix}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

/** A number as RapidJSON writes a double: always with a fraction or an exponent. */
export function doubleText(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity';
  if (Object.is(value, -0)) return '-0.0';
  const text = String(value);
  if (text.includes('e')) return text.replace('e+', 'e');
  return text.includes('.') ? text : `${text}.0`;
}
