import { messageOf } from '../base/errors.ts';
import { ProtocolError } from './errors.ts';
import { jsonDepthMax, jsonFieldsMax, jsonNodesMax, jsonValuesMax } from './limits.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Parses a JSON body.
 * @throws ProtocolError BODY_INVALID for an empty one, invalid UTF-8, broken JSON, nesting over {@link jsonDepthMax}, strings, arrays
 *   and objects over {@link jsonNodesMax}, fields over {@link jsonFieldsMax} or values over {@link jsonValuesMax}
 */
export function parseJsonBody(bytes: Buffer): unknown {
  if (bytes.length === 0) {
    throw new ProtocolError('BODY_INVALID', 'the request body is empty; send a JSON object');
  }
  checkStructure(bytes);
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch (cause) {
    throw new ProtocolError('BODY_INVALID', 'the request body is not valid UTF-8', { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    const message = `the request body is not valid JSON: ${messageOf(cause).slice(0, 300)}`;
    throw new ProtocolError('BODY_INVALID', message, { cause });
  }
}

const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const backslash = 0x5c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/**
 * Bounds nesting (templates and serializers recurse) and the number of values and fields before anything is allocated for them: a body of
 * `[[],[],…` takes thirty times its size once parsed, and a hundred thousand fields of one object take seconds. In the bytes as they
 * came, so that what is refused costs next to nothing.
 */
function checkStructure(bytes: Buffer): void {
  let depth = 0;
  let nodes = 0;
  let fields = 0;
  let values = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === quote) {
      nodes++;
      i = stringEnd(bytes, i);
    } else if (byte === comma) values++;
    else if (byte === colon) fields++;
    else if (byte === openBracket || byte === openBrace) {
      nodes++;
      depth++;
      if (depth > jsonDepthMax) {
        throw new ProtocolError(
          'BODY_INVALID',
          `the JSON body nests deeper than ${jsonDepthMax} levels; flatten it`,
        );
      }
    } else if (byte === closeBracket || byte === closeBrace) depth--;
    if (nodes > jsonNodesMax) throw tooMany(jsonNodesMax, 'values');
    if (fields > jsonFieldsMax) throw tooMany(jsonFieldsMax, 'fields');
    if (values > jsonValuesMax) throw tooMany(jsonValuesMax, 'values');
  }
}

/** Index of the quote that ends the string which begins at `start`; the body's end if there is none. */
function stringEnd(bytes: Buffer, start: number): number {
  for (let from = start + 1; ; ) {
    const end = bytes.indexOf(quote, from);
    if (end < 0) return bytes.length;
    let backslashes = 0;
    while (bytes[end - 1 - backslashes] === backslash && end - 1 - backslashes > start) backslashes++;
    if (backslashes % 2 === 0) return end;
    from = end + 1;
  }
}

function tooMany(count: number, what: 'values' | 'fields'): ProtocolError {
  return new ProtocolError(
    'BODY_INVALID',
    `the JSON body has over ${count} ${what}; send less in one request`,
  );
}

/**
 * Counts every value of a parsed body, numbers too, except in the top-level fields that hold token ids. Schemas make an error
 * object for each value that they do not like; this comes before them.
 * @throws ProtocolError BODY_INVALID over {@link jsonNodesMax}
 */
export function boundNodes(body: unknown, tokenFields: readonly string[]): void {
  if (typeof body !== 'object' || body === null) return;
  let nodes = 0;
  const open: object[] = [];
  const visit = (value: unknown): void => {
    if (++nodes > jsonNodesMax) throw tooMany(jsonNodesMax, 'values');
    if (typeof value === 'object' && value !== null) open.push(value);
  };
  if (Array.isArray(body)) open.push(body);
  else for (const [field, value] of Object.entries(body)) if (!tokenFields.includes(field)) visit(value);
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (Array.isArray(next)) for (const value of next) visit(value);
    else for (const key in next) visit((next as Record<string, unknown>)[key]);
  }
}
