import type { z } from 'zod';
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
  if (status === 429 || status === 503) headers['retry-after'] = String(retryAfterSeconds);
  if (status === 401) headers['www-authenticate'] = 'Bearer';
  return { status, headers, body: { error: { message, type: typeOf(status), param, code } } };
}

const messageLengthMax = 1500;

/** Parsers and templates quote what they were given: no control characters, and no more than anybody reads. */
function oneLine(message: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it removes
  return message.slice(0, messageLengthMax).replace(/[\u0000-\u001f\u007f]+/g, ' ');
}

type Issue = z.core.$ZodIssue;

function isOfOtherType({ code }: Issue): boolean {
  return code === 'invalid_type' || code === 'invalid_union' || code === 'custom';
}

/** Inside a union, the alternative that the value came closest to: the one that failed deepest, then with the fewest complaints. */
function closest(issue: Issue): { issue: Issue; path: PropertyKey[] } {
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return { issue, path: issue.path };
  const candidates = issue.errors
    .filter((issues) => issues.length > 0)
    .map((issues) => ({ found: closest(issues[0] as Issue), complaints: issues.length }));
  const best = candidates.sort(
    (a, b) =>
      b.found.path.length - a.found.path.length ||
      // Of the right type, with another fault.
      Number(isOfOtherType(a.found.issue)) - Number(isOfOtherType(b.found.issue)) ||
      a.complaints - b.complaints,
  )[0];
  if (!best || (best.found.path.length === 0 && isOfOtherType(best.found.issue)))
    return { issue, path: issue.path };
  return { issue: best.found.issue, path: [...issue.path, ...best.found.path] };
}

/** `messages[0].content` */
function parameterName(path: readonly PropertyKey[]): string {
  let name = '';
  for (const part of path) {
    if (typeof part === 'number') name += `[${part}]`;
    else name += name === '' ? String(part) : `.${String(part)}`;
  }
  return name.slice(0, 200);
}

const typesOfParameter: Readonly<Record<string, string>> = {
  prompt:
    'a string, an array of strings, an array of token ids or an array of arrays of token ids, none of them empty',
  stop: 'a string or an array of strings',
  content: 'a string or an array of content parts',
};

/** The first complaint of a schema as an error that names the parameter as the client wrote it. */
export function validationError(error: z.core.$ZodError): ProtocolError {
  const first = error.issues[0];
  if (!first) return new ProtocolError('PARAMETER_INVALID', 'the request is invalid');
  const { issue, path } = closest(first);
  const parameter = parameterName(path);
  if (path.length === 0)
    return new ProtocolError('PARAMETER_INVALID', `the body must be a JSON object (${issue.message})`);
  const expected = issue.code === 'invalid_union' ? typesOfParameter[String(path.at(-1))] : undefined;
  const message = `${parameter}: ${expected ? `must be ${expected}` : issue.message}`;
  const known =
    'params' in issue && (issue.params as { unsupported?: boolean } | undefined)?.unsupported === true;
  return new ProtocolError(known ? 'PARAMETER_UNSUPPORTED' : 'PARAMETER_INVALID', message, { parameter });
}
