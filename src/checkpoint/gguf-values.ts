import { CheckpointError } from './errors.ts';

/** GGUF's metadata value types in the order of their ids (`gguf.h`, `enum gguf_type`). */
export const ggufTypes = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
] as const;

export type GgufType = (typeof ggufTypes)[number];

/** Types whose values are JavaScript numbers. */
export type GgufNumberType = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'f64';

/** 64-bit integers: the reader gives a number where that is exact, else a bigint. */
export type GgufLongType = 'u64' | 'i64';

/** An array of one element type. The reader gives typed arrays for numbers (BigInt ones for 64 bits). */
export type GgufArray =
  | { type: 'array'; of: GgufNumberType; value: ArrayLike<number> }
  | { type: 'array'; of: GgufLongType; value: ArrayLike<number | bigint> }
  | { type: 'array'; of: 'bool'; value: readonly boolean[] }
  | { type: 'array'; of: 'string'; value: readonly string[] }
  | { type: 'array'; of: 'array'; value: readonly GgufArray[] };

/** A metadata value with the type it has in the file. */
export type GgufValue =
  | { type: GgufNumberType; value: number }
  | { type: GgufLongType; value: number | bigint }
  | { type: 'bool'; value: boolean }
  | { type: 'string'; value: string }
  | GgufArray;

/** Bytes of one value in the file; for strings and arrays the least that one takes. */
export const ggufTypeBytes: Record<GgufType, number> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  array: 12,
  u64: 8,
  i64: 8,
  f64: 8,
};

/** A GGUF's key-value pairs with getters that say which key is missing or of the wrong type. */
export class GgufMetadata {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;

  constructor(path: string, metadata: ReadonlyMap<string, GgufValue>) {
    this.path = path;
    this.metadata = metadata;
  }

  has(key: string): boolean {
    return this.metadata.has(key);
  }

  string(key: string): string {
    return this.#required(key, this.optionalString(key));
  }

  optionalString(key: string): string | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined || entry.type === 'string') return entry?.value;
    throw this.#wrongType(key, entry, 'a string');
  }

  /** Any integer or float type. */
  number(key: string): number {
    return this.#required(key, this.optionalNumber(key));
  }

  optionalNumber(key: string): number | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined || typeof entry.value === 'number') return entry?.value as number | undefined;
    throw this.#wrongType(key, entry, 'a number (below 2^53)');
  }

  boolean(key: string): boolean {
    return this.#required(key, this.optionalBoolean(key));
  }

  optionalBoolean(key: string): boolean | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined || entry.type === 'bool') return entry?.value;
    throw this.#wrongType(key, entry, 'a boolean');
  }

  strings(key: string): readonly string[] {
    return this.#required(key, this.optionalStrings(key));
  }

  optionalStrings(key: string): readonly string[] | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined) return undefined;
    if (entry.type === 'array' && entry.of === 'string') return entry.value;
    throw this.#wrongType(key, entry, 'an array of strings');
  }

  /** An array of any number type of at most 32 bits, or f64. */
  numbers(key: string): ArrayLike<number> {
    return this.#required(key, this.optionalNumbers(key));
  }

  optionalNumbers(key: string): ArrayLike<number> | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined) return undefined;
    if (entry.type === 'array' && isNumberType(entry.of)) return entry.value as ArrayLike<number>;
    throw this.#wrongType(key, entry, 'an array of numbers');
  }

  booleans(key: string): readonly boolean[] {
    return this.#required(key, this.optionalBooleans(key));
  }

  optionalBooleans(key: string): readonly boolean[] | undefined {
    const entry = this.metadata.get(key);
    if (entry === undefined) return undefined;
    if (entry.type === 'array' && entry.of === 'bool') return entry.value;
    throw this.#wrongType(key, entry, 'an array of booleans');
  }

  #required<T>(key: string, value: T | undefined): T {
    if (value !== undefined) return value;
    const fix = 'convert the model again with a current converter';
    throw new CheckpointError('GGUF_KEY_MISSING', `${this.path} has no metadata key '${key}'; ${fix}`);
  }

  #wrongType(key: string, entry: GgufValue, wanted: string): CheckpointError {
    const found = entry.type === 'array' ? `array of ${entry.of}` : entry.type;
    const problem = `${this.path}: metadata key '${key}' is of type ${found}, but must be ${wanted}`;
    return new CheckpointError(
      'GGUF_KEY_TYPE',
      `${problem}; convert the model again with a current converter`,
    );
  }
}

/** Whether values of this type are always exact JavaScript numbers. */
export function isNumberType(type: GgufType): type is GgufNumberType {
  return type !== 'bool' && type !== 'string' && type !== 'array' && type !== 'u64' && type !== 'i64';
}
