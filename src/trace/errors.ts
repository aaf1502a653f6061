import { type ErrorKind, NereidError } from '../base/errors.ts';

/** The codes of {@link TraceError}; stable, documented in docs/errors.md. */
const kinds = {
  TRACE_FILE_UNWRITABLE: 'invalid',
  TRACE_FILE_UNREADABLE: 'not-found',
  TRACE_FILE_INVALID: 'invalid',
} as const satisfies Record<string, ErrorKind>;

/** A trace file that cannot be written or read. */
export class TraceError extends NereidError {
  constructor(code: keyof typeof kinds, message: string, options?: { cause?: unknown }) {
    super(code, kinds[code], message, options);
  }
}
