import { messageOf } from '../base/errors.ts';
import { RepositoryError, type RepositoryStatus, toRepositoryError } from './errors.ts';
import type { ModelIndexEntry, ModelState } from './model.ts';
import type { ServedVersion } from './served-version.ts';

/** One version of a model, in whatever state. */
export interface VersionEntry {
  state: ModelState;
  reason: string;
  served?: ServedVersion;
}

/** What a repository knows of one model. */
export interface ModelEntry {
  readonly name: string;
  versions: Map<string, VersionEntry>;
  /** Why not even its versions are known. */
  failure: string | undefined;
  /** By `fingerprint`, where it was loaded from its own folder. */
  loadedFrom: string | undefined;
  /** Models that its steps call. */
  uses: readonly string[];
  /** Counts for readiness: it was to be loaded and was not unloaded since. */
  isWanted: boolean;
  removeFolder: () => Promise<void>;
}

/** Of a model that is about to be loaded. */
export function emptyEntry(name: string): ModelEntry {
  return {
    name,
    versions: new Map(),
    failure: undefined,
    loadedFrom: undefined,
    uses: [],
    isWanted: true,
    removeFolder: async () => {},
  };
}

/** Whether every version that is to be served is. */
export function isEntryReady(entry: ModelEntry): boolean {
  const versions = [...entry.versions.values()];
  return (
    versions.length > 0 && entry.failure === undefined && versions.every(({ state }) => state === 'READY')
  );
}

/** The lines of the index. */
export function indexEntries(name: string, entry: ModelEntry | undefined): ModelIndexEntry[] {
  if (!entry) return [{ name, version: '', state: '', reason: '' }];
  if (entry.versions.size === 0) {
    return [{ name, version: '', state: entry.failure ? 'UNAVAILABLE' : '', reason: entry.failure ?? '' }];
  }
  return [...entry.versions].map(([version, { state, reason }]) => ({ name, version, state, reason }));
}

/** Why a model is not ready. */
export function reasonOf(entry: ModelEntry): string {
  const version = [...entry.versions.values()].find(({ state }) => state !== 'READY');
  return entry.failure ?? version?.reason ?? 'it is loading';
}

const statusTexts: Readonly<Record<RepositoryStatus, string>> = {
  INVALID_ARGUMENT: 'Invalid argument',
  NOT_FOUND: 'Not found',
  UNAVAILABLE: 'Unavailable',
  UNSUPPORTED: 'Unsupported',
  INTERNAL: 'Internal',
  ALREADY_EXISTS: 'Already exists',
  CANCELLED: 'Cancelled',
  UNKNOWN: 'Unknown',
};

/** A load that failed, in tritonserver's words for whoever asked for it; the index shows only the reason. */
export class LoadError extends RepositoryError {
  readonly reason: string;

  constructor(message: string, reason: string, cause: unknown) {
    super('INVALID_ARGUMENT', message, { cause });
    this.reason = reason;
  }
}

/** Of a version whose backend did not take it. */
export function versionFailed(name: string, version: string, cause: unknown): LoadError {
  const error = toRepositoryError(cause);
  const reason = `${statusTexts[error.status]}: ${error.message}`;
  return new LoadError(
    `load failed for model '${name}': version ${version} is at UNAVAILABLE state: ${reason};\n`,
    reason,
    cause,
  );
}

/** Of a model that cannot be, whatever its versions: its wiring, its version policy. */
export function modelFailed(name: string, cause: unknown): LoadError {
  const reason = messageOf(cause);
  return new LoadError(`load failed for model '${name}': ${reason}\n`, reason, cause);
}

/** What a load request is answered: without more knowledge, that the model could not be read. */
export function failedToLoad(name: string, thrown: unknown): RepositoryError {
  if (thrown instanceof LoadError) return thrown;
  const message = messageOf(thrown);
  if (thrown instanceof RepositoryError && message.startsWith("failed to load '")) return thrown;
  const text = `failed to load '${name.slice(0, 200)}', failed to poll from model repository: ${message}`;
  return new RepositoryError('INTERNAL', text, { cause: thrown });
}

const int64Max = 2n ** 63n - 1n;

/**
 * A client's version; undefined for the latest. As C++'s `stol` reads it: white space before and anything behind the digits is no matter.
 * @throws RepositoryError INVALID_ARGUMENT
 */
export function parseVersion(version: string): string | undefined {
  if (version === '' || version === '-1') return undefined;
  const digits = /^\s*\+?(\d{1,40})/.exec(version)?.[1];
  const number = digits === undefined ? undefined : BigInt(digits);
  if (number !== undefined && number <= int64Max) return String(number);
  throw new RepositoryError(
    'INVALID_ARGUMENT',
    `failed to get model version from specified version string '${version.slice(0, 40)}' (details: stol), version should be an integral value > 0`,
  );
}
