import { NereidError } from '../../base/errors.ts';
import { httpStatusOf } from '../errors.ts';
import type { HttpErrorResponse } from '../http-server.ts';
import { retryAfterSeconds } from '../limits.ts';

/** Anthropic's error body. */
export interface AnthropicErrorBody {
  type: 'error';
  error: { type: string; message: string };
}

const types: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
  504: 'timeout_error',
};

const messageLengthMax = 1500;

/** What a client is told of an error from any layer. Errors that are not ours keep their text to themselves. */
export function errorResponse(error: unknown): HttpErrorResponse & { body: AnthropicErrorBody } {
  const status = httpStatusOf(error);
  const type = types[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error');
  const headers: Record<string, string> = {};
  if (status === 429 || status === 503) headers['retry-after'] = String(retryAfterSeconds);
  return { status, headers, body: { type: 'error', error: { type, message: wordsOf(error) } } };
}

/** Clients know an overflow of the context by Anthropic's own first words. */
function wordsOf(error: unknown): string {
  if (!(error instanceof NereidError)) return 'internal error; the server log has the details';
  const isOverflow = error.code === 'CONTEXT_LENGTH_EXCEEDED' || error.code === 'PROMPT_TOO_LONG';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it removes
  const text = error.message.slice(0, messageLengthMax).replace(/[\u0000-\u001f\u007f]+/g, ' ');
  return isOverflow ? `prompt is too long: ${text}` : text;
}
