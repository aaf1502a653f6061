import { createHash } from 'node:crypto';
import type { AdapterDescription } from '../runtime/adapters/adapter.ts';
import type { ServedModel } from './served-model.ts';

/** A model's adapters as models of their own: they answer to their names, and speak with the base model's tokenizer and template. */
export class AdaptedModels {
  readonly #base: ServedModel;
  /** By digest and name, so that a request costs a look. */
  #known = new Map<string, ServedModel>();

  constructor(base: ServedModel) {
    this.#base = base;
  }

  get list(): ServedModel[] {
    return (this.#base.client.adapters?.list() ?? []).map((adapter) => this.#adapted(adapter));
  }

  find(name: string): ServedModel | undefined {
    const adapter = this.#base.client.adapters?.list().find((one) => one.name === name);
    return adapter && this.#adapted(adapter);
  }

  #adapted({ name, digest, path }: AdapterDescription): ServedModel {
    const key = `${digest} ${name}`;
    const known = this.#known.get(key);
    if (known) return known;
    const base = this.#base;
    const identity = createHash('sha256').update(`${base.fingerprint} ${digest}`).digest('hex');
    const adapted: ServedModel = {
      ...base,
      name,
      aliases: [],
      adapter: { name, digest },
      parent: base.name,
      root: path,
      createdSeconds: Math.floor(Date.now() / 1000),
      fingerprint: `fp_${identity.slice(0, 12)}`,
    };
    const names = new Set(this.#base.client.adapters?.list().map((one) => `${one.digest} ${one.name}`));
    // What was unloaded is forgotten here too.
    this.#known = new Map([...this.#known].filter(([other]) => names.has(other))).set(key, adapted);
    return adapted;
  }
}
