import { NereidError } from '../../base/errors.ts';
import { httpStatusOf, ProtocolError } from '../errors.ts';
import { retryAfterSeconds } from '../limits.ts';

/** OpenAI's error body. */
export interface OpenAiErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** OpenAI's own names where it has one; otherwise our code in lower case. */
const openAiCodes: Readonly<Record<string, string>> = {
  UNAUTHENTICATED: 'invalid_api_key',
  MODEL_NOT_FOUND: 'model_not_found',
  CONTEXT_LENGTH_EXCEEDED: 'context_length_exceeded',
  PROMPT_TOO_LONG: 'context_length_exceeded',
  PARAMETER_UNSUPPORTED: 'unsupported_parameter',
  PARAMETER_INVALID: 'invalid_value',
  QUEUE_FULL: 'queue_full',
  RATE_LIMITED: 'rate_limit_exceeded',
};

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 404) return 'not_found_error';
  if (status === 429) return 'rate_limit_error';
  if (status === 504 || status === 408) return 'timeout_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}

/** An error as this protocol's HTTP response. */
export interface ErrorResponse {
  status: number;
  headers: Record<string, string>;
  body: OpenAiErrorBody;
}

/**
 * What a client is told of an error from any layer. Errors that are not ours keep their text to themselves: it may hold paths or
 * prompts; the log has it.
 */
export function errorResponse(error: unknown): ErrorResponse {
  const status = httpStatusOf(error);
  const ours = error instanceof NereidError;
  const message = ours ? oneLine(error.message) : 'internal error; the server log has the details';
  const code = ours ? (openAiCodes[error.code] ?? error.code.toLowerCase()) : 'internal_error';
  const param = error instanceof ProtocolError ? (error.parameter ?? null) : null;
  const headers: Record<string, string> = {};
  if (status === 429 || status === 503) headers['retry-after'] = String(secondsOf(error));
  if (status === 401) headers['www-authenticate'] = 'Bearer';
  return { status, headers, body: { error: { message, type: typeOf(status), param, code } } };
}

function secondsOf(error: unknown): number {
  return (error instanceof ProtocolError ? error.retryAfterSeconds : undefined) ?? retryAfterSeconds;
}

const messageLengthMax = 1500;

/** Parsers and templates quote what they were given: no control characters, and no more than anybody reads. */
function oneLine(message: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it removes
  return message.slice(0, messageLengthMax).replace(/[\u0000-\u001f\u007f]+/g, ' ');
}
