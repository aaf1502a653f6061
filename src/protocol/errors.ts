import { type ErrorKind, NereidError } from '../base/errors.ts';

/** The codes of {@link ProtocolError}, with the kind and the HTTP status of each; stable, documented in docs/openai.md. */
const rows = {
  BODY_INVALID: ['invalid', 400],
  BODY_TOO_LARGE: ['invalid', 413],
  CONTENT_TYPE_UNSUPPORTED: ['unsupported', 415],
  CONTENT_ENCODING_UNSUPPORTED: ['unsupported', 415],
  PARAMETER_INVALID: ['invalid', 400],
  PARAMETER_UNSUPPORTED: ['unsupported', 400],
  CONTEXT_LENGTH_EXCEEDED: ['invalid', 400],
  ANSWER_TOO_LARGE: ['invalid', 400],
  MODEL_NOT_FOUND: ['not-found', 404],
  RESPONSE_NOT_FOUND: ['not-found', 404],
  PREVIOUS_RESPONSE_NOT_FOUND: ['invalid', 400],
  ROUTE_NOT_FOUND: ['not-found', 404],
  METHOD_NOT_ALLOWED: ['unsupported', 405],
  UNAUTHENTICATED: ['invalid', 401],
  REQUEST_MALFORMED: ['invalid', 400],
  HEADERS_TOO_LARGE: ['invalid', 431],
  REQUEST_TIMEOUT: ['unavailable', 504],
  REQUEST_TOO_SLOW: ['invalid', 408],
  RATE_LIMITED: ['exhausted', 429],
  PIPELINE_FULL: ['exhausted', 429],
  ANSWERS_FULL: ['exhausted', 503],
  CLIENT_CLOSED: ['cancelled', 499],
  READER_TOO_SLOW: ['cancelled', 499],
  GENERATION_CONFIG_INVALID: ['invalid', 500],
  TLS_INVALID: ['invalid', 500],
} as const satisfies Record<string, readonly [ErrorKind, number]>;

export type ProtocolErrorCode = keyof typeof rows;

const statusOfKind: Record<ErrorKind, number> = {
  invalid: 400,
  'not-found': 404,
  exhausted: 429,
  unavailable: 503,
  cancelled: 499,
  unsupported: 400,
  internal: 500,
};

/** Anything a network protocol refuses by itself. `parameter` names the field at fault, as the client wrote it. */
export class ProtocolError extends NereidError {
  readonly parameter: string | undefined;
  /** When to try again, where that is known. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ProtocolErrorCode,
    message: string,
    options?: { parameter?: string; retryAfterSeconds?: number; cause?: unknown },
  ) {
    super(code, rows[code][0], message, options);
    this.parameter = options?.parameter;
    this.retryAfterSeconds = options?.retryAfterSeconds;
  }
}

/** The HTTP status of an error from any layer; 500 for what is not ours. */
export function httpStatusOf(error: unknown): number {
  if (!(error instanceof NereidError)) return 500;
  const row: readonly [ErrorKind, number] | undefined = rows[error.code as ProtocolErrorCode];
  return error instanceof ProtocolError && row ? row[1] : statusOfKind[error.kind];
}
