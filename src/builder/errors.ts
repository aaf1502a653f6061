import { type ErrorKind, messageOf, NereidError } from '../base/errors.ts';

/** Every code of {@link BuilderError}; what to do about each stands in docs/build.md and docs/engine-folder.md. */
export const builderErrorKinds = {
  BUILD_CONFIG_INVALID: 'invalid',
  BUILD_CONFIG_NOT_FOUND: 'not-found',
  BUILD_CONFIG_SYNTAX: 'invalid',
  BUILD_SOURCE_UNSUPPORTED: 'unsupported',
  BUILD_TENSOR_MISSING: 'invalid',
  BUILD_TENSOR_SHAPE: 'invalid',
  BUILD_SHARD_BLOCKS: 'unsupported',
  ENGINE_RANK_MISSING: 'invalid',
  BUILD_OUTPUT_EXISTS: 'invalid',
  BUILD_OUTPUT_LOCKED: 'unavailable',
  BUILD_OUTPUT_UNWRITABLE: 'invalid',
  BUILD_DISK_FULL: 'exhausted',
  BUILD_INTERRUPTED: 'cancelled',
  ENGINE_NOT_FOUND: 'not-found',
  ENGINE_MANIFEST_INVALID: 'invalid',
  ENGINE_FORMAT_VERSION: 'unsupported',
  ENGINE_RELEASE_MISMATCH: 'unsupported',
  ENGINE_FILE_MISSING: 'invalid',
  ENGINE_FILE_CHANGED: 'invalid',
  QUANTIZE_LIBRARY_MISSING: 'unsupported',
  QUANTIZE_FAILED: 'internal',
  QUANTIZE_UNSUPPORTED: 'unsupported',
} as const satisfies Record<string, ErrorKind>;

export type BuilderErrorCode = keyof typeof builderErrorKinds;

/** A build that cannot be done, or an engine folder that cannot be used. */
export class BuilderError extends NereidError {
  declare readonly code: BuilderErrorCode;

  constructor(code: BuilderErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, builderErrorKinds[code], message, options);
  }
}

/** A failure to write below `folder` as a {@link BuilderError} that says what to do; other errors pass unchanged. */
export function writeError(folder: string, thrown: unknown): unknown {
  // The GGUF writer wraps what the file system says.
  const failure =
    thrown instanceof NereidError && thrown.code === 'CHECKPOINT_WRITE_FAILED' ? thrown.cause : thrown;
  if (failure instanceof NereidError) return thrown;
  const reason = (failure as { code?: unknown } | null)?.code;
  if (reason === 'ENOSPC' || reason === 'EDQUOT') {
    const message = `no space left while writing to ${folder}; free some space or write elsewhere: --output of nereid build, NEREID_CACHE of all others`;
    return new BuilderError('BUILD_DISK_FULL', message, { cause: thrown });
  }
  if (
    reason === 'ENOENT' ||
    reason === 'EACCES' ||
    reason === 'EPERM' ||
    reason === 'EROFS' ||
    reason === 'ENOTDIR' ||
    reason === 'EEXIST'
  ) {
    const message = `cannot write to ${folder} (${messageOf(thrown)}); change its permissions or write elsewhere: --output of nereid build, NEREID_CACHE of all others`;
    return new BuilderError('BUILD_OUTPUT_UNWRITABLE', message, { cause: thrown });
  }
  return thrown;
}
