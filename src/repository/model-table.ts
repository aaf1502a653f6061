import { definite } from '../base/errors.ts';
import { indexEntries, isEntryReady, type ModelEntry, parseVersion } from './entry.ts';
import { RepositoryError } from './errors.ts';
import type { Model, ModelIndexEntry, ModelStatistics } from './model.ts';
import type { ServedVersion } from './served-version.ts';

/** The models that a repository knows, by name, in whatever state; what is asked of them. */
export class ModelTable {
  readonly #entries = new Map<string, ModelEntry>();

  get(name: string): ModelEntry | undefined {
    return this.#entries.get(name);
  }

  add(entry: ModelEntry): void {
    this.#entries.set(entry.name, entry);
  }

  delete(name: string): void {
    this.#entries.delete(name);
  }

  clear(): void {
    this.#entries.clear();
  }

  all(): ModelEntry[] {
    return [...this.#entries.values()];
  }

  /** The models whose steps call this one. */
  usersOf(name: string): ModelEntry[] {
    return this.all().filter((entry) => entry.uses.includes(name) && entry.name !== name);
  }

  /** Every version of every model that is ready. */
  ready(): ServedVersion[] {
    return this.all().flatMap((entry) =>
      [...entry.versions.values()].flatMap(({ state, served }) =>
        state === 'READY' && served ? [served] : [],
      ),
    );
  }

  /**
   * @param found folder by name, for models that nothing was done with yet
   * @param repositoryName narrows to one folder; '' is all
   */
  index(found: ReadonlyMap<string, string>, readyOnly: boolean, repositoryName: string): ModelIndexEntry[] {
    const names = new Set([...found.keys(), ...this.#entries.keys()]);
    const inFolder = (name: string): boolean =>
      repositoryName === '' || (found.get(name)?.startsWith(`${repositoryName}/`) ?? false);
    return [...names]
      .filter(inFolder)
      .sort()
      .flatMap((name) => indexEntries(name, this.#entries.get(name)))
      .filter((entry) => !readyOnly || entry.state === 'READY');
  }

  /** @throws RepositoryError with Triton's text where it is not ready */
  model(name: string, version = ''): Model {
    const number = parseVersion(version);
    const problem = (text: string, status: 'NOT_FOUND' | 'UNAVAILABLE' = 'NOT_FOUND'): RepositoryError =>
      new RepositoryError(status, `Request for unknown model: '${name.slice(0, 200)}' ${text}`);
    const entry = this.#entries.get(name);
    if (!entry) throw problem('is not found');
    if (number === undefined) {
      const latest = [...entry.versions.values()].findLast(({ state }) => state === 'READY');
      if (!latest?.served) throw problem('has no available versions');
      return latest.served;
    }
    const found = entry.versions.get(number);
    if (!found) throw problem(`version ${number} is not found`);
    if (found.state !== 'READY' || !found.served)
      throw problem(`version ${number} is not at ready state`, 'UNAVAILABLE');
    return found.served;
  }

  /** @throws RepositoryError INVALID_ARGUMENT for a version that is no number */
  isModelReady(name: string, version = ''): boolean {
    try {
      const model = this.model(name, version);
      const entry = this.#entries.get(model.name);
      return entry?.uses.every((inner) => this.isModelReady(inner)) ?? false;
    } catch (thrown) {
      if (thrown instanceof RepositoryError && thrown.status !== 'INVALID_ARGUMENT') return false;
      throw thrown;
    }
  }

  /** @throws RepositoryError INVALID_ARGUMENT for a model that is not ready */
  statistics(name = '', version = ''): ModelStatistics[] {
    if (name !== '') {
      const model = this.#modelForStatistics(name, version);
      if (version !== '') return [this.#served(model).statistics()];
    }
    return this.ready()
      .filter((served) => name === '' || served.name === name)
      .map((served) => served.statistics());
  }

  get areWantedReady(): boolean {
    return this.all().every((entry) => !entry.isWanted || isEntryReady(entry));
  }

  #served(model: Model): ServedVersion {
    const entry = this.#entries.get(model.name)?.versions.get(model.version);
    return definite(entry?.served, `the version ${model.version} of ${model.name}`);
  }

  #modelForStatistics(name: string, version: string): Model {
    parseVersion(version);
    try {
      return this.model(name, version);
    } catch (cause) {
      const shown = `'${name.slice(0, 200)}'`;
      const isKnown = version !== '' && this.isModelReady(name);
      const message = isKnown
        ? `requested model version is not available for model ${shown}`
        : `requested model ${shown} is not available`;
      throw new RepositoryError('INVALID_ARGUMENT', message, { cause });
    }
  }
}
