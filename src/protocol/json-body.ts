import { messageOf } from '../base/errors.ts';
import { ProtocolError } from './errors.ts';
import { jsonDepthMax, jsonNodesMax } from './limits.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Parses a JSON body.
 * @throws ProtocolError BODY_INVALID for an empty one, invalid UTF-8, broken JSON, nesting over {@link jsonDepthMax} or strings,
 *   arrays and objects over {@link jsonNodesMax}
 */
export function parseJsonBody(bytes: Buffer): unknown {
  if (bytes.length === 0) {
    throw new ProtocolError('BODY_INVALID', 'the request body is empty; send a JSON object');
  }
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch (cause) {
    throw new ProtocolError('BODY_INVALID', 'the request body is not valid UTF-8', { cause });
  }
  checkStructure(text);
  try {
    return JSON.parse(text);
  } catch (cause) {
    const message = `the request body is not valid JSON: ${messageOf(cause).slice(0, 300)}`;
    throw new ProtocolError('BODY_INVALID', message, { cause });
  }
}

/**
 * Bounds nesting (templates and serializers recurse) and the number of values before anything is allocated for them: a body of
 * `[[],[],…` takes thirty times its size once parsed.
 */
function checkStructure(text: string): void {
  let depth = 0;
  let nodes = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit === 0x22) {
      nodes++;
      i = stringEnd(text, i);
    } else if (unit === 0x5b || unit === 0x7b) {
      nodes++;
      depth++;
      if (depth > jsonDepthMax) {
        throw new ProtocolError(
          'BODY_INVALID',
          `the JSON body nests deeper than ${jsonDepthMax} levels; flatten it`,
        );
      }
    } else if (unit === 0x5d || unit === 0x7d) depth--;
    if (nodes > jsonNodesMax) throw tooManyNodes();
  }
}

/** Index of the quote that ends the string which begins at `start`; the text's end if there is none. */
function stringEnd(text: string, start: number): number {
  for (let from = start + 1; ; ) {
    const quote = text.indexOf('"', from);
    if (quote < 0) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(quote - 1 - backslashes) === 0x5c && quote - 1 - backslashes > start)
      backslashes++;
    if (backslashes % 2 === 0) return quote;
    from = quote + 1;
  }
}

function tooManyNodes(): ProtocolError {
  return new ProtocolError(
    'BODY_INVALID',
    `the JSON body has over ${jsonNodesMax} values; send less in one request`,
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
    if (++nodes > jsonNodesMax) throw tooManyNodes();
    if (typeof value === 'object' && value !== null) open.push(value);
  };
  if (Array.isArray(body)) open.push(body);
  else for (const [field, value] of Object.entries(body)) if (!tokenFields.includes(field)) visit(value);
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (Array.isArray(next)) for (const value of next) visit(value);
    else for (const key in next) visit((next as Record<string, unknown>)[key]);
  }
}
