import koffi, { type LibraryHandle } from 'koffi';
import { messageOf } from '../../base/errors.ts';
import { DeviceError } from '../errors.ts';

type Signature = (...values: never[]) => unknown;

/** One C function of a library: its C types, and its TypeScript type in `signature`, which is never set. */
export interface FunctionRow<F extends Signature> {
  readonly result: string;
  readonly parameters: readonly string[];
  readonly signature?: F;
}

/** C functions by their exported names. */
export type FunctionTable = Readonly<Record<string, FunctionRow<Signature>>>;

/** A table's functions, callable. */
export type Bound<T extends FunctionTable> = {
  readonly [N in keyof T]: T[N] extends FunctionRow<infer F> ? F : never;
};

const shortNames: Readonly<Record<string, string>> = { p: 'void *', u64: 'uint64_t', u32: 'uint32_t' };

/** A row whose C parameters are given as words: `p` is any pointer, `u64` and `u32` are integers, others are C's own names. */
export function declare<F extends Signature>(parameters: string, result = 'int'): FunctionRow<F> {
  const expand = (name: string) => shortNames[name] ?? name;
  return { result: expand(result), parameters: parameters.split(' ').filter(Boolean).map(expand) };
}

/** A loaded shared library, and where it was found. */
export interface LoadedLibrary {
  readonly path: string;
  readonly handle: LibraryHandle;
}

/**
 * Resolves every function of a table at once, so that a library that lacks one is refused before any use.
 * @throws DeviceError DEVICE_LIBRARY_MISMATCH naming what is missing
 */
export function bindTable<T extends FunctionTable>({ path, handle }: LoadedLibrary, table: T): Bound<T> {
  const missing: string[] = [];
  const bound: Record<string, unknown> = {};
  for (const [name, { result, parameters }] of Object.entries(table)) {
    try {
      bound[name] = handle.func(name, result, [...parameters]);
    } catch {
      missing.push(name);
    }
  }
  if (missing.length === 0) return bound as Bound<T>;
  const fix = 'install CUDA 12.8 or newer (driver 570 or newer)';
  throw new DeviceError('DEVICE_LIBRARY_MISMATCH', `${path} lacks ${missing.join(', ')}: ${fix}`);
}

/** Loads a shared library by path or by the loader's own search. Undefined where there is none. */
export function tryLoad(path: string): LoadedLibrary | undefined {
  try {
    return { path, handle: koffi.load(path) };
  } catch {
    return undefined;
  }
}

/**
 * Loads a shared library.
 * @throws DeviceError DEVICE_LIBRARY_MISSING with the loader's reason
 */
export function load(path: string): LoadedLibrary {
  try {
    return { path, handle: koffi.load(path) };
  } catch (cause) {
    throw new DeviceError('DEVICE_LIBRARY_MISSING', `cannot load ${path}: ${messageOf(cause)}`, { cause });
  }
}
