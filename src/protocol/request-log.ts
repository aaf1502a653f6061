import type { FastifyRequest } from 'fastify';
import { messageOf, NereidError } from '../base/errors.ts';

/** The part of pino's interface in use. */
export interface RequestLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What a request's log line says of an error: the same words as the client got. */
export interface LoggedError {
  code: string;
  message: string;
  /** The field at fault. */
  param?: string;
}

/** Characters of an error's message in a log line. */
const messageLengthMax = 300;
/** Characters of a path in a log line. */
const pathLengthMax = 200;

/** @param body the response's, of any protocol: OpenAI's and Anthropic's `error` is an object, KServe's a text */
export function loggedError(error: unknown, body: unknown): LoggedError {
  const worded = (body as { error?: unknown } | null)?.error;
  if (typeof worded === 'object' && worded !== null) {
    const { code, type, message, param } = worded as Record<string, unknown>;
    const known: LoggedError = {
      code: String(code ?? type ?? ''),
      message: String(message ?? '').slice(0, messageLengthMax),
    };
    if (typeof param === 'string') known.param = param;
    return known;
  }
  const code = error instanceof NereidError ? error.code.toLowerCase() : 'internal_error';
  return { code, message: messageOf(error).slice(0, messageLengthMax) };
}

/** A request of which nothing else is known than that its client left. */
const clientClosed: LoggedError = {
  code: 'client_closed',
  message: 'the client left before the answer was done',
};

/** One line a request, in the API's own names (`prompt_tokens`, `finish_reason`, `error.code`), so that a field reads the same in both. */
export function logRequest(
  logger: RequestLogger,
  request: FastifyRequest,
  route: string,
  status: number,
  durationNs: number,
): void {
  const { log } = request.exchange;
  const fields = {
    request_id: request.id,
    method: request.method,
    path: (request.url.split('?', 1)[0] ?? '').slice(0, pathLengthMax),
    route,
    status,
    duration_ms: Math.round(durationNs / 1e4) / 100,
    ...log,
    ...(status === 499 && log.error === undefined ? { error: clientClosed } : {}),
  };
  if (status >= 500) logger.warn(fields, 'request');
  else logger.info(fields, 'request');
}
