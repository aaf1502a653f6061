import { ModelError } from './errors.ts';

/** `config.json`, unchecked. */
export type JsonRecord = Readonly<Record<string, unknown>>;

/** Largest count that a field may hold; more is a damaged file, not a model. */
const countMax = 2 ** 31 - 1;

/** Typed access to the fields of a Hugging Face `config.json`; an error names the field and what was expected. */
export class Config {
  readonly #fields: JsonRecord;
  readonly #path: string;

  /** @param path of `fields` inside the file, for errors: '' or 'rope_scaling.' */
  constructor(fields: JsonRecord, path = '') {
    this.#fields = fields;
    this.#path = path;
  }

  has(field: string): boolean {
    return this.#value(field) !== undefined;
  }

  /** A whole number of at least 1. */
  count(field: string, fallback?: number): number {
    const value = this.#value(field) ?? fallback;
    if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= countMax) return value;
    throw this.#wrong(field, 'a whole number of at least 1', value);
  }

  /** A whole number of at least 0. */
  index(field: string, fallback: number): number {
    const value = this.#value(field) ?? fallback;
    return value === 0 ? 0 : this.count(field, fallback);
  }

  /** A finite number above 0. */
  positive(field: string, fallback?: number): number {
    const value = this.#value(field) ?? fallback;
    if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
    throw this.#wrong(field, 'a number above 0', value);
  }

  boolean(field: string, fallback: boolean): boolean {
    const value = this.#value(field) ?? fallback;
    if (typeof value === 'boolean') return value;
    throw this.#wrong(field, 'true or false', value);
  }

  string(field: string, fallback?: string): string {
    const value = this.#value(field) ?? fallback;
    if (typeof value === 'string') return value;
    throw this.#wrong(field, 'a string', value);
  }

  /** A nested record, or undefined where the field is absent or null. */
  record(field: string): Config | undefined {
    const value = this.#value(field);
    if (value === undefined) return undefined;
    if (typeof value === 'object' && !Array.isArray(value)) {
      return new Config(value as JsonRecord, `${this.#path}${field}.`);
    }
    throw this.#wrong(field, 'an object', value);
  }

  strings(field: string): readonly string[] | undefined {
    const value = this.#value(field);
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value as string[];
    throw this.#wrong(field, 'an array of strings', value);
  }

  /** Refuses every value of `field` but those that this architecture computes. */
  oneOf(field: string, fallback: string, known: readonly string[]): string {
    const value = this.string(field, fallback);
    if (known.includes(value)) return value;
    throw this.unsupported(field, `'${value}'`, `supported: ${known.join(', ')}`);
  }

  unsupported(field: string, got: string, hint: string): ModelError {
    return new ModelError('MODEL_UNSUPPORTED', `config.json: ${this.#path}${field} is ${got}; ${hint}`);
  }

  #value(field: string): NonNullable<unknown> | undefined {
    return (Object.hasOwn(this.#fields, field) ? this.#fields[field] : undefined) ?? undefined;
  }

  #wrong(field: string, expected: string, value: unknown): ModelError {
    const got = value === undefined ? 'it is absent' : `it is ${JSON.stringify(value)}`;
    const message = `config.json: ${this.#path}${field} must be ${expected}, but ${got}`;
    return new ModelError('MODEL_CONFIG_INVALID', message);
  }
}
