import { type ErrorKind, NereidError } from '../base/errors.ts';

/** Every code of {@link ArtifactError}; what to do about each stands in docs/build.md. */
export const artifactErrorKinds = {
  CATALOG_INVALID: 'internal',
  MODEL_NOT_FOUND: 'not-found',
  MODEL_UNAVAILABLE: 'unavailable',
  DOWNLOAD_FAILED: 'unavailable',
  DOWNLOAD_CORRUPT: 'invalid',
  ARCHIVE_INVALID: 'invalid',
  CACHE_UNWRITABLE: 'invalid',
} as const satisfies Record<string, ErrorKind>;

export type ArtifactErrorCode = keyof typeof artifactErrorKinds;

/** A model that cannot be found, fetched or kept. */
export class ArtifactError extends NereidError {
  declare readonly code: ArtifactErrorCode;

  constructor(code: ArtifactErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, artifactErrorKinds[code], message, options);
  }
}
