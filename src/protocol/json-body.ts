import { messageOf } from '../base/errors.ts';
import { ProtocolError } from './errors.ts';
import { jsonDepthMax } from './limits.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Parses a JSON body.
 * @throws ProtocolError BODY_INVALID for an empty one, invalid UTF-8, broken JSON or nesting over {@link jsonDepthMax}
 */
export function parseJsonBody(bytes: Buffer): unknown {
  if (bytes.length === 0)
    throw new ProtocolError('BODY_INVALID', 'the request body is empty; send a JSON object');
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch (cause) {
    throw new ProtocolError('BODY_INVALID', 'the request body is not valid UTF-8', { cause });
  }
  checkDepth(text);
  try {
    return JSON.parse(text);
  } catch (cause) {
    const message = `the request body is not valid JSON: ${messageOf(cause).slice(0, 300)}`;
    throw new ProtocolError('BODY_INVALID', message, { cause });
  }
}

/**
 * Bounds nesting by counting brackets, those inside strings left out. Short bodies cannot nest deeply and are not scanned, and
 * neither are those with few brackets.
 */
function checkDepth(text: string): void {
  if (text.length <= jsonDepthMax) return;
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (inString) {
      if (unit === 0x5c) i++;
      else if (unit === 0x22) inString = false;
    } else if (unit === 0x22) inString = true;
    else if (unit === 0x5b || unit === 0x7b) {
      depth++;
      if (depth > jsonDepthMax) {
        throw new ProtocolError(
          'BODY_INVALID',
          `the JSON body nests deeper than ${jsonDepthMax} levels; flatten it`,
        );
      }
    } else if (unit === 0x5d || unit === 0x7d) depth--;
  }
}
