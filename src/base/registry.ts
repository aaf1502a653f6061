import { NereidError } from './errors.ts';

/** A name that no row of a registry carries. */
export class UnknownNameError extends NereidError {
  constructor(kind: string, name: string, known: readonly string[]) {
    super('UNKNOWN_NAME', 'unsupported', `unknown ${kind} '${name}'; known: ${known.join(', ')}`);
  }
}

/**
 * A plug point (architectures, devices, protocols): typed rows with lazy imports. A row's module loads only when picked, and an
 * unknown name's error lists the known ones.
 */
export class Registry<T> {
  readonly #rows = new Map<string, () => Promise<T>>();
  readonly #kind: string;

  /** @param kind what a row is, for the error text: 'architecture', 'device' */
  constructor(kind: string, rows: Record<string, () => Promise<T>>) {
    this.#kind = kind;
    for (const [name, load] of Object.entries(rows)) this.#rows.set(name, load);
  }

  get names(): string[] {
    return [...this.#rows.keys()];
  }

  has(name: string): boolean {
    return this.#rows.has(name);
  }

  /** @throws UnknownNameError */
  async load(name: string): Promise<T> {
    const load = this.#rows.get(name);
    if (!load) throw new UnknownNameError(this.#kind, name, this.names);
    return load();
  }
}
