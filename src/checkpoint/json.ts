import { readFileSync, statSync } from 'node:fs';
import { messageOf } from '../base/errors.ts';
import { CheckpointError, fileError } from './errors.ts';

/** A JSON object as parsed: fields are checked by whoever uses them. */
export type JsonRecord = Record<string, unknown>;

/** The largest JSON file that is read whole (a tokenizer.json of a 260,000-word vocabulary takes about 35 MB). */
export const jsonFileBytesMax = 128 * 1024 * 1024;

/** Whether a parsed value is an object (no array, no null). */
export function isRecord(value: unknown): value is JsonRecord {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Decodes UTF-8 strictly. @throws TypeError on an invalid sequence */
export function decodeUtf8(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}

/**
 * Reads a file that holds one JSON object.
 * @throws CheckpointError when it is missing, too large, no UTF-8, no JSON or no object
 */
export function readJsonFile(path: string): JsonRecord {
  let bytes: Buffer;
  try {
    const stat = statSync(path);
    if (!stat.isFile()) throw new CheckpointError('CHECKPOINT_UNREADABLE', `${path} is no regular file`);
    if (stat.size > jsonFileBytesMax) {
      const problem = `${path} has ${stat.size} bytes, over the limit of ${jsonFileBytesMax} for JSON files`;
      throw new CheckpointError('CHECKPOINT_JSON_INVALID', `${problem}; check that it is the right file`);
    }
    bytes = readFileSync(path);
  } catch (thrown) {
    throw fileError(path, thrown);
  }
  const value = parseJson(path, bytes);
  if (isRecord(value)) return value;
  throw new CheckpointError('CHECKPOINT_JSON_INVALID', `${path} holds no JSON object; fetch it again`);
}

function parseJson(path: string, bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decodeUtf8(bytes));
  } catch (thrown) {
    const problem = `${path} is not valid JSON (${messageOf(thrown)})`;
    throw new CheckpointError('CHECKPOINT_JSON_INVALID', `${problem}; fetch it again`, { cause: thrown });
  }
}

/** Why a JSON text is refused beyond being well-formed. */
export type JsonTextProblem = { kind: 'duplicate'; key: string } | { kind: 'depth' };

/**
 * Scans JSON text for what `JSON.parse` passes over in silence: a key twice in one object, or nesting beyond `depthMax`.
 * Text that is no JSON gives any answer.
 */
export function jsonTextProblem(text: string, depthMax: number): JsonTextProblem | undefined {
  /** Keys of every open object; undefined for an open array. */
  const open: (Set<string> | undefined)[] = [];
  let keyComes = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') {
      const end = stringEnd(text, at);
      const keys = open.at(-1);
      if (keyComes && keys) {
        const key = keyText(text.slice(at, end));
        if (keys.has(key)) return { kind: 'duplicate', key };
        keys.add(key);
      }
      keyComes = false;
      at = end - 1;
    } else if (character === '{' || character === '[') {
      open.push(character === '{' ? new Set() : undefined);
      if (open.length > depthMax) return { kind: 'depth' };
      keyComes = character === '{';
    } else if (character === '}' || character === ']') {
      open.pop();
    } else if (character === ',') {
      keyComes = open.at(-1) !== undefined;
    }
  }
  return undefined;
}

/** The index after the string's closing quote. */
function stringEnd(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    const character = text.charCodeAt(at);
    if (character === 0x5c) at++;
    else if (character === 0x22) return at + 1;
  }
  return text.length;
}

/** A quoted key as the program will see it: `"\\u0061"` and `"a"` are the same key. */
function keyText(quoted: string): string {
  if (!quoted.includes('\\')) return quoted.slice(1, -1);
  try {
    return String(JSON.parse(quoted));
  } catch {
    return quoted; // No JSON: `JSON.parse` of the whole text will say so.
  }
}
