import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { messageOf } from '../base/errors.ts';
import type { BuildDtype } from '../builder/config.ts';
import { isEngineFolder } from '../builder/engine-folder.ts';
import { type Reporter, silentReporter } from '../builder/reporter.ts';
import { Cache } from './cache.ts';
import {
  type Catalog,
  type CatalogEntry,
  catalogHint,
  describeSource,
  embeddedModelsFolder,
  findEntry,
  loadCatalog,
  type ModelSource,
} from './catalog.ts';
import { ArtifactError } from './errors.ts';
import { cachedSnapshot, downloadSnapshot, type HubReference, parseHubReference } from './hub.ts';
import { cachedWheelFile, downloadWheelFile } from './wheel.ts';

/** A model on this machine's disk, and how it came there. */
export interface ResolvedModel {
  kind: 'engine' | 'gguf' | 'hugging-face';
  /** Absolute. */
  path: string;
  /** What the model calls itself where nobody says otherwise. */
  name: string;
  /** The catalogue's advice for building from this source. */
  dtype?: BuildDtype;
  /** Decisions worth telling: which source answered, which did not and why. */
  notes: string[];
}

/** Where to look, and whom to tell. Defaults: the user's cache, the catalogue that comes with Nereid, silence. */
export interface ResolveOptions {
  cache?: Cache;
  catalog?: Catalog;
  reporter?: Reporter;
  signal?: AbortSignal;
  /** Take only what is on the disk. Default: HF_HUB_OFFLINE or NEREID_OFFLINE is 1. */
  offline?: boolean;
}

interface Context {
  cache: Cache;
  catalog: Catalog;
  reporter: Reporter;
  signal?: AbortSignal;
  offline: boolean;
}

/**
 * Finds the model that a reference means, and fetches it where needed: an engine folder, a `.gguf` file, a Hugging Face folder, a
 * name of the catalogue (`default` among them), or a hub name (`org/name[@revision][:file.gguf]`). A path that exists always wins.
 * @throws ArtifactError with what every source said
 */
export async function resolveModel(reference: string, options: ResolveOptions = {}): Promise<ResolvedModel> {
  const context: Context = {
    cache: options.cache ?? new Cache(),
    catalog: options.catalog ?? loadCatalog(),
    reporter: options.reporter ?? silentReporter,
    signal: options.signal,
    offline: options.offline ?? isOffline(),
  };
  if (existsSync(reference)) return resolvePath(reference);
  if (reference === 'default') return resolveDefault(context);
  const entry = findEntry(context.catalog, reference);
  if (entry) return resolveEntry(entry, context);
  const hub = parseHubReference(reference);
  if (hub && !looksLikePath(reference)) return resolveHub(hub, context);
  throw notFound(reference, context.catalog);
}

function isOffline(): boolean {
  return process.env.NEREID_OFFLINE === '1' || process.env.HF_HUB_OFFLINE === '1';
}

function looksLikePath(reference: string): boolean {
  return /^[./~]/.test(reference) || (reference.endsWith('.gguf') && !reference.includes(':'));
}

function notFound(reference: string, catalog: Catalog): ArtifactError {
  if (looksLikePath(reference) || reference.includes('/')) {
    return new ArtifactError('MODEL_NOT_FOUND', `${reference} does not exist; check the path`);
  }
  const hint = catalogHint(catalog, reference);
  const fix =
    'give an engine folder, a .gguf file, a Hugging Face folder, a hub name (org/name), or a name from `nereid models`';
  return new ArtifactError('MODEL_NOT_FOUND', `no model '${reference}'${hint || `; ${fix}`}`);
}

/** What a path on this machine is. Whether it is sound, its reader says. */
export function resolvePath(path: string): ResolvedModel {
  const full = resolve(path);
  const name = basename(full).replace(/\.gguf$/, '');
  const found = (kind: ResolvedModel['kind'], at = full): ResolvedModel => ({
    kind,
    path: at,
    name,
    notes: [],
  });
  if (!statSync(full).isDirectory()) return found('gguf');
  if (isEngineFolder(full)) return found('engine');
  const names = readdirSync(full);
  const models = names.filter((file) => file.endsWith('.gguf'));
  const isHuggingFace = names.includes('config.json') && names.some((file) => file.includes('.safetensors'));
  return found(models.length > 0 && !isHuggingFace ? 'gguf' : 'hugging-face');
}

async function resolveDefault(context: Context): Promise<ResolvedModel> {
  const { catalog } = context;
  try {
    return await resolveEntry(definiteEntry(catalog, catalog.default), context);
  } catch (thrown) {
    context.signal?.throwIfAborted();
    if (!(thrown instanceof ArtifactError) || thrown.code !== 'MODEL_UNAVAILABLE') throw thrown;
    const model = await resolveEntry(definiteEntry(catalog, catalog.fallback), context);
    const note = `${catalog.default} is not available here, so ${catalog.fallback} is used instead (${thrown.message})`;
    return { ...model, notes: [note, ...model.notes] };
  }
}

function definiteEntry(catalog: Catalog, name: string): CatalogEntry {
  const entry = findEntry(catalog, name);
  if (entry) return entry;
  throw new ArtifactError('CATALOG_INVALID', `the catalogue has no model '${name}'; fix models/catalog.json`);
}

/** Tries a model's sources: first what is on the disk, in order, then the network, in order. */
async function resolveEntry(entry: CatalogEntry, context: Context): Promise<ResolvedModel> {
  for (const source of entry.sources) {
    const path = localCopy(entry, source, context.cache);
    if (path) return describe(entry, source, path, []);
  }
  const failures: string[] = [];
  for (const source of entry.sources) {
    try {
      const path = await fetchSource(entry, source, context);
      return describe(entry, source, path, failures);
    } catch (thrown) {
      context.signal?.throwIfAborted();
      failures.push(`${describeSource(source)}: ${messageOf(thrown)}`);
    }
  }
  const problem = `no source of ${entry.name} answered`;
  throw new ArtifactError(
    'MODEL_UNAVAILABLE',
    `${problem}: ${failures.map((one, i) => `(${i + 1}) ${one}`).join('; ')}`,
  );
}

function describe(
  entry: CatalogEntry,
  source: ModelSource,
  path: string,
  failures: readonly string[],
): ResolvedModel {
  const notes = failures.map((failure) => `${entry.name}: ${failure}; trying the next source`);
  return { ...resolvePath(path), name: entry.name, dtype: source.dtype, notes };
}

/** What an earlier run fetched, or what comes with Nereid. */
export function localCopy(entry: CatalogEntry, source: ModelSource, cache: Cache): string | undefined {
  if ('hub' in source) return cachedSnapshot(cache, { repository: source.hub, revision: source.revision });
  if ('wheel' in source) return cachedWheelFile(cache, entry, source);
  const folder = join(embeddedModelsFolder, source.folder);
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names.some((name) => name.endsWith('.safetensors')) ? folder : undefined;
}

async function fetchSource(entry: CatalogEntry, source: ModelSource, context: Context): Promise<string> {
  const { cache, reporter, signal, offline } = context;
  if ('folder' in source) {
    const path = join(embeddedModelsFolder, source.folder);
    throw new ArtifactError(
      'MODEL_UNAVAILABLE',
      `${path} is not part of this installation; install Nereid again`,
    );
  }
  if (offline) throw new ArtifactError('DOWNLOAD_FAILED', 'offline (NEREID_OFFLINE=1 or HF_HUB_OFFLINE=1)');
  if ('wheel' in source) return downloadWheelFile(cache, entry, source, reporter, signal);
  return downloadSnapshot(cache, { repository: source.hub, revision: source.revision }, reporter, signal);
}

async function resolveHub(hub: HubReference, context: Context): Promise<ResolvedModel> {
  const name = hub.repository.split('/')[1] ?? hub.repository;
  const cached = cachedSnapshot(context.cache, hub);
  if (cached) return { ...resolvePath(cached), name, notes: [] };
  if (context.offline) {
    const problem = `${hub.repository} is not in the cache, and this run is offline`;
    throw new ArtifactError(
      'DOWNLOAD_FAILED',
      `${problem}; unset NEREID_OFFLINE and HF_HUB_OFFLINE, or give a local path`,
    );
  }
  const path = await downloadSnapshot(context.cache, hub, context.reporter, context.signal);
  return { ...resolvePath(path), name, notes: [] };
}
