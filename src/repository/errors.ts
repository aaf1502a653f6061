import { type ErrorKind, NereidError } from '../base/errors.ts';

/** Triton's statuses (TRITONSERVER_Error_Code), as codes of {@link RepositoryError}; each protocol maps them to its own. */
const kinds = {
  INVALID_ARGUMENT: ['invalid'],
  NOT_FOUND: ['not-found'],
  UNAVAILABLE: ['unavailable'],
  UNSUPPORTED: ['unsupported'],
  INTERNAL: ['internal'],
  ALREADY_EXISTS: ['invalid'],
  CANCELLED: ['cancelled'],
  UNKNOWN: ['internal'],
} as const satisfies Record<string, readonly [ErrorKind]>;

export type RepositoryStatus = keyof typeof kinds;

/** What the model repository or one of its models refuses. Texts that clients look for are Triton's own, word for word. */
export class RepositoryError extends NereidError {
  readonly status: RepositoryStatus;

  constructor(status: RepositoryStatus, message: string, options?: { cause?: unknown }) {
    super(status, kinds[status][0], message, options);
    this.status = status;
  }
}

const statusOfKind: Record<ErrorKind, RepositoryStatus> = {
  invalid: 'INVALID_ARGUMENT',
  'not-found': 'NOT_FOUND',
  exhausted: 'UNAVAILABLE',
  unavailable: 'UNAVAILABLE',
  cancelled: 'CANCELLED',
  unsupported: 'UNSUPPORTED',
  internal: 'INTERNAL',
};

/** Any error as one of this layer's: those of other layers keep their text and get the status of their kind. */
export function toRepositoryError(thrown: unknown): RepositoryError {
  if (thrown instanceof RepositoryError) return thrown;
  if (thrown instanceof NereidError) {
    return new RepositoryError(statusOfKind[thrown.kind], thrown.message, { cause: thrown });
  }
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new RepositoryError('INTERNAL', message, { cause: thrown });
}
