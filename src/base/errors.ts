/**
 * What went wrong, in terms a protocol can map to a status without knowing the code:
 * `invalid` (the caller's mistake), `not-found`, `exhausted` (a named limit is full), `unavailable` (try again later),
 * `cancelled`, `unsupported` (valid, but this build or machine cannot), `internal` (our bug or a broken machine).
 */
export type ErrorKind =
  | 'invalid'
  | 'not-found'
  | 'exhausted'
  | 'unavailable'
  | 'cancelled'
  | 'unsupported'
  | 'internal';

/**
 * The base of every layer's error class. `code` is stable and documented (`docs/errors.md`); `message` is one line that
 * says what is wrong *and what to do about it*.
 */
export class NereidError extends Error {
  readonly code: string;
  readonly kind: ErrorKind;

  constructor(code: string, kind: ErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    this.kind = kind;
  }
}

/** A broken invariant: a bug in Nereid, never a user's mistake. */
export class AssertionError extends NereidError {
  constructor(message: string) {
    super('ASSERTION_FAILED', 'internal', `broken invariant: ${message} (please report this)`);
  }
}

/** Throws {@link AssertionError} unless `condition` holds. For invariants only; user mistakes get a layer's own error. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Narrows away `undefined` where the code guarantees a value (array access under `noUncheckedIndexedAccess`). */
export function definite<T>(value: T | undefined | null, what: string): T {
  if (value === undefined || value === null) throw new AssertionError(`${what} is missing`);
  return value;
}

/** The one-line text of anything thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
