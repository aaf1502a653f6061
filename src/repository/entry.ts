import { messageOf } from '../base/errors.ts';
import { RepositoryError } from './errors.ts';
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

/** What a load request is answered. */
export function failedToLoad(name: string, thrown: unknown): RepositoryError {
  const message = messageOf(thrown);
  if (message.startsWith('failed to load') || message.startsWith('load failed'))
    return thrown as RepositoryError;
  const status = thrown instanceof RepositoryError ? thrown.status : 'INTERNAL';
  return new RepositoryError(status, `load failed for model '${name}': ${message}`, { cause: thrown });
}

/** A client's version; undefined for the latest. @throws RepositoryError INVALID_ARGUMENT */
export function parseVersion(version: string): string | undefined {
  if (version === '' || version === '-1') return undefined;
  if (/^[1-9]\d{0,18}$/.test(version)) return version;
  throw new RepositoryError(
    'INVALID_ARGUMENT',
    `failed to get model version from specified version string '${version.slice(0, 40)}' (details: stoll), version should be an integral value > 0`,
  );
}
