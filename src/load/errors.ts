import { type ErrorKind, NereidError } from '../base/errors.ts';

/** The codes of {@link LoadError}; stable, documented in docs/errors.md. */
const kinds = {
  LOAD_OPTION_INVALID: 'invalid',
  LOAD_DATASET_INVALID: 'invalid',
  LOAD_DATASET_UNREADABLE: 'not-found',
  LOAD_TARGET_UNREACHABLE: 'unavailable',
  LOAD_TARGET_REFUSED: 'invalid',
  LOAD_CHECK_FAILED: 'invalid',
  LOAD_WORKER_FAILED: 'internal',
  LOAD_RESULT_INVALID: 'invalid',
} as const satisfies Record<string, ErrorKind>;

export type LoadErrorCode = keyof typeof kinds;

/** A load that cannot be made as asked. A request that fails under load is no error: it is a record of the result. */
export class LoadError extends NereidError {
  constructor(code: LoadErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, kinds[code], message, options);
  }
}
