import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { RepositoryLogger } from './backend.ts';
import type { EngineHost } from './engine-host.ts';
import {
  emptyEntry,
  failedToLoad,
  isEntryReady,
  LoadError,
  type ModelEntry,
  modelFailed,
  reasonOf,
  type VersionEntry,
  versionFailed,
} from './entry.ts';
import { RepositoryError } from './errors.ts';
import { fingerprint, modelNames, notInRepository, prepareFolder, readConfig } from './folder.ts';
import { type LoaderParts, loadVersion, planModel } from './loader.ts';
import { NamedLocks } from './locks.ts';
import type {
  LoadParameters,
  Model,
  ModelControlMode,
  ModelIndexEntry,
  ModelRepository,
  ModelStatistics,
  RepositoryEngine,
} from './model.ts';
import { ModelTable } from './model-table.ts';
import type { ServedVersion } from './served-version.ts';

/** How a repository is opened. */
export interface RepositoryOptions {
  folders: readonly string[];
  controlMode?: ModelControlMode;
  /** In explicit mode: what to load at the start; `*` is everything. */
  loadModels?: readonly string[];
  /** In poll mode. */
  pollSeconds?: number;
  /** Ready only when every model is. Default true. */
  strictReadiness?: boolean;
  autoComplete?: boolean;
  configName?: string;
  engines: EngineHost;
  clock?: Clock;
  logger?: RepositoryLogger;
  /** How long running requests may finish when their model is unloaded. */
  drainMs?: number;
  /** Models loaded at the same time. */
  loadThreads?: number;
}

const defaults = { pollSeconds: 15, drainMs: 30_000, loadThreads: 4 };

const silent: RepositoryLogger = { info: () => {}, warn: () => {}, error: () => {} };

/**
 * Opens a repository and loads what its control mode says. Models that fail to load do not fail this: see {@link Repository.failures}.
 * @throws RepositoryError NOT_FOUND for a folder that cannot be read
 */
export async function openRepository(options: RepositoryOptions): Promise<Repository> {
  const repository = new Repository(options);
  await repository.start();
  return repository;
}

/** The models of some folders, loaded and unloaded as the control mode says. */
export class Repository implements ModelRepository {
  readonly controlMode: ModelControlMode;
  readonly #options: RepositoryOptions;
  readonly #parts: LoaderParts;
  readonly #models = new ModelTable();
  /** One load or unload of a model at a time. */
  readonly #locks = new NamedLocks();
  readonly #closing = new Set<Promise<void>>();
  readonly #listeners = new Set<() => void>();
  /** Folder by model name. */
  #found = new Map<string, string>();
  #pollTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: RepositoryOptions) {
    this.#options = options;
    this.controlMode = options.controlMode ?? 'none';
    this.#parts = {
      engines: options.engines,
      clock: options.clock ?? systemClock,
      logger: options.logger ?? silent,
      autoComplete: options.autoComplete ?? true,
      configName: options.configName,
      model: (name, version) => this.model(name, version),
    };
  }

  /** Once, before anything else. */
  async start(): Promise<void> {
    await this.#scan();
    const explicit = this.#options.loadModels ?? [];
    const all = this.controlMode !== 'explicit' || explicit.includes('*');
    await this.#loadAll(all ? [...this.#found.keys()] : explicit);
    if (this.controlMode === 'poll') this.#schedulePoll();
  }

  /** The models that should be ready and are not, with the reason. */
  failures(): { name: string; reason: string }[] {
    return this.#models
      .all()
      .filter((entry) => entry.isWanted && !isEntryReady(entry))
      .map((entry) => ({ name: entry.name, reason: reasonOf(entry) }));
  }

  get isReady(): boolean {
    if (this.#isClosed) return false;
    if (this.#options.strictReadiness === false) return true;
    return this.#models.areWantedReady;
  }

  /** Calls back after each change of what is ready. @returns stops it */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  index(readyOnly: boolean, repositoryName = ''): ModelIndexEntry[] {
    return this.#models.index(this.#found, readyOnly, repositoryName);
  }

  async load(name: string, parameters: LoadParameters = {}): Promise<void> {
    this.#checkExplicit();
    await this.#scan();
    try {
      await this.#load(name, parameters);
    } catch (thrown) {
      // A wish that could not be granted takes nothing from the server: it is as ready as before.
      const entry = this.#models.get(name);
      if (entry && !isEntryReady(entry)) entry.isWanted = false;
      throw thrown;
    }
  }

  async unload(name: string, options: { unloadDependents?: boolean } = {}): Promise<void> {
    this.#checkExplicit();
    await this.#unload(name, options.unloadDependents ?? false);
    await this.#unloadUsers(name);
  }

  model(name: string, version = ''): Model {
    return this.#models.model(name, version);
  }

  isModelReady(name: string, version = ''): boolean {
    return this.#models.isModelReady(name, version);
  }

  statistics(name = '', version = ''): ModelStatistics[] {
    return this.#models.statistics(name, version);
  }

  engines(): RepositoryEngine[] {
    return this.#models.ready().flatMap((served) => served.engine ?? []);
  }

  /** Unloads everything: running requests may finish for `drainMs`. */
  async close(drainMs = this.#drainMs): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#pollTimer);
    await this.#locks.idle();
    await Promise.all(this.#models.all().map((entry) => this.#closeVersions(entry, drainMs)));
    await Promise.all(this.#closing);
    this.#models.clear();
  }

  get #drainMs(): number {
    return this.#options.drainMs ?? defaults.drainMs;
  }

  #checkExplicit(): void {
    if (this.controlMode === 'explicit') return;
    throw new RepositoryError(
      'UNAVAILABLE',
      'explicit model load / unload is not allowed if polling is enabled (start the server with --model-control-mode=explicit)',
    );
  }

  async #scan(): Promise<void> {
    const found = new Map<string, string>();
    for (const folder of this.#options.folders) {
      for (const name of await modelNames(folder)) {
        const other = found.get(name);
        if (other === undefined) found.set(name, `${folder}/${name}`);
        else
          this.#parts.logger.error({ model: name }, `the model is in two repositories; ${other} is served`);
      }
    }
    this.#found = found;
  }

  /** Loads models, those that others are made of first (each load asks for what it needs). */
  async #loadAll(names: readonly string[]): Promise<void> {
    const queue = [...names];
    const threads = Math.max(1, this.#options.loadThreads ?? defaults.loadThreads);
    const worker = async (): Promise<void> => {
      for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
        try {
          await this.#load(name, {});
        } catch (thrown) {
          this.#parts.logger.error({ model: name, reason: messageOf(thrown) }, 'failed to load');
        }
      }
    };
    await Promise.all(Array.from({ length: threads }, worker));
  }

  #load(name: string, parameters: LoadParameters): Promise<void> {
    return this.#locks.run(name, async () => {
      const own = this.#found.get(name);
      if (own === undefined && !parameters.files) {
        if (this.#models.get(name)) await this.#forget(name);
        throw notInRepository(name);
      }
      const isPlain = parameters.config === undefined && !parameters.files;
      // A configuration that a load request brought stays until the folder changes, as tritonserver has it.
      const loadedFrom = !parameters.files && own !== undefined ? await fingerprint(own) : undefined;
      const known = this.#models.get(name);
      if (isPlain && known && known.loadedFrom === loadedFrom && isEntryReady(known)) return;
      await this.#loadAnew(name, own, parameters, loadedFrom);
    });
  }

  async #loadAnew(
    name: string,
    own: string | undefined,
    parameters: LoadParameters,
    loadedFrom: string | undefined,
  ): Promise<void> {
    const entry = this.#models.get(name) ?? emptyEntry(name);
    this.#models.add(entry);
    entry.isWanted = true;
    const folder = await prepareFolder(own, name, parameters).catch((thrown: unknown) => {
      this.#failed(entry, thrown);
      throw thrown;
    });
    try {
      const planned = await planModel(name, folder.path, folder.config, this.#parts);
      const uses = [
        ...new Set((planned.config.ensemble_scheduling?.step ?? []).map((step) => step.model_name)),
      ];
      await this.#ensureParts(name, uses);
      await this.#replace(entry, planned);
      const { removeFolder } = entry;
      Object.assign(entry, { failure: undefined, loadedFrom, uses, removeFolder: folder.remove });
      await removeFolder();
      this.#parts.logger.info({ model: name, versions: planned.versions }, 'loaded');
    } catch (thrown) {
      await folder.remove();
      this.#failed(entry, thrown);
      throw failedToLoad(name, thrown);
    } finally {
      this.#changed();
    }
    await this.#reloadUsers(name);
  }

  async #ensureParts(name: string, uses: readonly string[]): Promise<void> {
    for (const inner of uses) {
      try {
        if (inner !== name) await this.#ensure(inner, [name]);
      } catch (cause) {
        const problem = this.#found.has(inner)
          ? `ensemble '${name}' depends on '${inner}' which has no loaded version. Model '${inner}' loading failed with error: ${messageOf(cause)}`
          : `ensemble ${name} contains models that are not available or ambiguous: ${inner}`;
        throw modelFailed(name, new RepositoryError('INVALID_ARGUMENT', problem, { cause }));
      }
    }
  }

  /** Loads a model that another is made of, if it is not ready yet. */
  async #ensure(name: string, path: readonly string[]): Promise<void> {
    if (path.includes(name) || path.length > ensembleDepthMax) {
      throw new RepositoryError(
        'INVALID_ARGUMENT',
        `circular dependency between ensembles: ${[...path, name].join(' -> ')}`,
      );
    }
    const entry = this.#models.get(name);
    if (entry && isEntryReady(entry)) return;
    const own = this.#found.get(name);
    if (own !== undefined) {
      const inner = await usedBy(own, name, this.#parts);
      for (const next of inner) await this.#ensure(next, [...path, name]);
    }
    await this.#load(name, {});
  }

  /** Loads every planned version, then puts them in place of the old ones, all or none. */
  async #replace(entry: ModelEntry, planned: Awaited<ReturnType<typeof planModel>>): Promise<void> {
    const isNew = entry.versions.size === 0 || ![...entry.versions.values()].some(({ served }) => served);
    if (isNew) {
      entry.versions = new Map(
        planned.versions.map((version) => [version, { state: 'LOADING', reason: '' }]),
      );
      entry.failure = undefined;
    }
    const loaded = new Map<string, VersionEntry>();
    try {
      for (const version of planned.versions) {
        const served = await loadVersion(planned, version, this.#parts).catch((thrown: unknown) => {
          throw planned.backend === 'ensemble'
            ? modelFailed(planned.name, thrown)
            : versionFailed(planned.name, version, thrown);
        });
        loaded.set(version, { state: 'READY', reason: '', served });
      }
    } catch (thrown) {
      for (const { served } of loaded.values()) this.#retire(served, 0);
      throw thrown;
    }
    for (const { served } of loaded.values()) if (served) served.readyVersions = [...loaded.keys()];
    const old = entry.versions;
    entry.versions = loaded;
    for (const { served } of old.values()) this.#retire(served, this.#drainMs);
  }

  /** Ensembles are wired to the models that they found: they look again when one of them changed. */
  async #reloadUsers(name: string): Promise<void> {
    for (const user of this.#models.usersOf(name)) {
      const own = this.#found.get(user.name);
      // One that is being loaded now looks by itself, and waits for this.
      if (own === undefined || this.#locks.isHeld(user.name)) continue;
      user.loadedFrom = undefined;
      await this.#load(user.name, {}).catch((thrown: unknown) => {
        this.#parts.logger.error({ model: user.name, reason: messageOf(thrown) }, 'failed to load');
      });
    }
  }

  #failed(entry: ModelEntry, thrown: unknown): void {
    const isServing = [...entry.versions.values()].some(({ served }) => served);
    // A reload that failed leaves what was there.
    if (isServing) return;
    entry.failure = thrown instanceof LoadError ? thrown.reason : messageOf(thrown);
    for (const version of entry.versions.values()) {
      version.state = 'UNAVAILABLE';
      version.reason = entry.failure;
    }
  }

  /** Ensembles end with the models that they are made of, and come back with them. */
  async #unloadUsers(name: string): Promise<void> {
    for (const user of this.#models.usersOf(name)) {
      // One that is being loaded looks by itself.
      const isServing = [...user.versions.values()].some(({ served }) => served);
      if (!isServing || this.#locks.isHeld(user.name)) continue;
      await this.#locks.run(user.name, async () => {
        const { uses } = user;
        user.isWanted = false;
        await this.#empty(user);
        user.uses = uses;
      });
      await this.#unloadUsers(user.name);
    }
  }

  #unload(name: string, unloadDependents: boolean): Promise<void> {
    return this.#locks.run(name, async () => {
      const entry = this.#models.get(name);
      if (!entry) return;
      entry.isWanted = false;
      const { uses } = entry;
      await this.#empty(entry);
      if (!unloadDependents) return;
      for (const inner of uses) {
        const others = this.#models
          .all()
          .some((other) => other.isWanted && other.name !== name && other.uses.includes(inner));
        if (!others) await this.#unload(inner, true);
      }
    });
  }

  /** Takes a model out of service; its versions stay in the index as unloaded. */
  async #empty(entry: ModelEntry): Promise<void> {
    for (const version of entry.versions.values()) {
      const { served } = version;
      version.served = undefined;
      version.state = 'UNLOADING';
      version.reason = '';
      void this.#retire(served, this.#drainMs).then(() => {
        if (version.state === 'UNLOADING')
          Object.assign(version, { state: 'UNAVAILABLE', reason: 'unloaded' });
      });
    }
    entry.failure = undefined;
    entry.loadedFrom = undefined;
    entry.uses = [];
    const { removeFolder } = entry;
    entry.removeFolder = async () => {};
    await removeFolder();
    this.#changed();
  }

  async #forget(name: string): Promise<void> {
    const entry = this.#models.get(name);
    if (!entry) return;
    await this.#empty(entry);
    this.#models.delete(name);
    this.#changed();
  }

  #retire(served: ServedVersion | undefined, drainMs: number): Promise<void> {
    if (!served) return Promise.resolve();
    served.stopTaking();
    const closing = served.close(drainMs).catch((thrown: unknown) => {
      this.#parts.logger.error({ model: served.name, reason: messageOf(thrown) }, 'failed to unload');
    });
    this.#closing.add(closing);
    void closing.then(() => this.#closing.delete(closing));
    return closing;
  }

  async #closeVersions(entry: ModelEntry, drainMs: number): Promise<void> {
    await Promise.all([...entry.versions.values()].map(({ served }) => this.#retire(served, drainMs)));
    await entry.removeFolder();
  }

  #schedulePoll(): void {
    const seconds = this.#options.pollSeconds ?? defaults.pollSeconds;
    this.#pollTimer = setTimeout(() => {
      this.poll().then(
        () => this.#schedulePoll(),
        (thrown: unknown) => {
          this.#parts.logger.error({ reason: messageOf(thrown) }, 'failed to poll the repository');
          this.#schedulePoll();
        },
      );
    }, seconds * 1000);
    this.#pollTimer.unref();
  }

  /** Looks for new, changed and removed models: one turn of poll mode. */
  async poll(): Promise<void> {
    if (this.#isClosed) return;
    await this.#scan();
    for (const name of this.#models.all().map((entry) => entry.name)) {
      if (!this.#found.has(name)) await this.#locks.run(name, () => this.#forget(name));
    }
    await this.#loadAll([...this.#found.keys()]);
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** Ensembles within ensembles. */
export const ensembleDepthMax = 16;

/** The models that a model's steps call, by its files. */
async function usedBy(folder: string, name: string, parts: LoaderParts): Promise<string[]> {
  const config = await readConfig(folder, name, parts.configName);
  return (config.ensemble_scheduling?.step ?? []).map((step) => step.model_name);
}
