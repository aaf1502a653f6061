import type { EngineClient } from '../client.ts';
import { adapterNotLoaded } from '../errors.ts';
import type { AdapterReference } from '../requests/request.ts';
import type { AdapterDescription, AdapterDirectory, AdapterSource } from './adapter.ts';

/** Whether an engine would take a request with this adapter. */
export function hasAdapter(client: EngineClient, { digest }: AdapterReference): boolean {
  return client.adapters?.list().some((one) => one.digest === digest) ?? false;
}

/** The adapters of several engines of one model: each of them has all. */
export class PooledAdapters implements AdapterDirectory {
  readonly #clients: readonly EngineClient[];

  constructor(clients: readonly EngineClient[]) {
    this.#clients = clients;
  }

  /** Whether any of the engines serves adapters. */
  get isServed(): boolean {
    return this.#clients.some(({ adapters }) => adapters !== undefined);
  }

  /** What any of them has: one that came back loads again what the others have. */
  list(): readonly AdapterDescription[] {
    const [first, ...others] = this.#directories().map((one) => one.list());
    if (others.length === 0) return first ?? [];
    const byName = new Map(first?.map((one) => [one.name, one]));
    for (const one of others.flat()) if (!byName.has(one.name)) byName.set(one.name, one);
    return [...byName.values()];
  }

  /** On all of them, or on none. */
  async load(source: AdapterSource): Promise<AdapterDescription> {
    const directories = this.#directories();
    const outcomes = await Promise.allSettled(directories.map((one) => one.load(source)));
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    const loaded = outcomes.find((outcome) => outcome.status === 'fulfilled');
    if (loaded && !failed) return loaded.value;
    const isLoaded = (index: number) => outcomes[index]?.status === 'fulfilled';
    await Promise.allSettled(
      directories.filter((_, index) => isLoaded(index)).map((one) => one.unload(source.name)),
    );
    throw failed ? failed.reason : adapterNotLoaded(source.name);
  }

  async unload(name: string): Promise<void> {
    const having = this.#directories().filter((one) => one.list().some((known) => known.name === name));
    if (having.length === 0) throw adapterNotLoaded(name);
    await Promise.all(having.map((one) => one.unload(name)));
  }

  #directories(): AdapterDirectory[] {
    return this.#clients.flatMap(({ adapters, ready }) => (adapters && ready ? [adapters] : []));
  }
}
