import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { DeviceError } from '../errors.ts';
import { type LoadedLibrary, tryLoad } from './ffi.ts';

/** A library of the CUDA toolkit: what it is called, newest release first, and what to install where it is missing. */
export interface LibrarySpec {
  readonly files: readonly string[];
  readonly wheel: string;
}

/** What the CUDA device needs beside the driver (NCCL for several GPUs only). None of it comes with the driver. */
export const libraries = {
  nvrtc: { files: ['libnvrtc.so.13', 'libnvrtc.so.12'], wheel: 'nvidia-cuda-nvrtc' },
  nccl: { files: ['libnccl.so.2'], wheel: 'nvidia-nccl-cu13' },
  cublasLt: { files: ['libcublasLt.so.13', 'libcublasLt.so.12'], wheel: 'nvidia-cublas' },
} as const satisfies Record<string, LibrarySpec>;

/** The driver's own library: part of the driver, never of the toolkit. */
export const driverFiles = ['libcuda.so.1', 'libcuda.so'] as const;

/** Wheels that hold the headers which kernels include. */
const headerWheel = 'nvidia-cuda-runtime';
const headerFile = 'cuda_bf16.h';

/** Where files are looked for: the environment, and a listing of folders, so that tests need no CUDA. */
export interface SearchPlaces {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly home: string;
}

/** This process's own environment. */
export const systemPlaces = (): SearchPlaces => ({ environment: process.env, home: homedir() });

/** Folders in a parent whose names start with a prefix, newest (by name) first; none where the parent does not exist. */
function childrenOf(parent: string, prefix: string): string[] {
  if (!existsSync(parent)) return [];
  const names = readdirSync(parent).filter((name) => name.startsWith(prefix));
  return names.sort((a, b) => b.localeCompare(a, 'en', { numeric: true })).map((name) => join(parent, name));
}

/** Python's package folders that pip's NVIDIA wheels may lie in: of the virtual environment, of python3 on the path, of user and system. */
function sitePackages({ environment, home }: SearchPlaces): string[] {
  const roots: string[] = [];
  if (environment.VIRTUAL_ENV) roots.push(environment.VIRTUAL_ENV);
  for (const folder of (environment.PATH ?? '').split(delimiter)) {
    if (folder && existsSync(join(folder, 'python3'))) roots.push(dirname(folder));
  }
  roots.push(join(home, '.local'), '/usr/local', '/usr');
  const versions = [...new Set(roots)].flatMap((root) => childrenOf(join(root, 'lib'), 'python3'));
  return versions.flatMap((version) => [join(version, 'site-packages'), join(version, 'dist-packages')]);
}

/** Roots of CUDA toolkits, each holding `lib64` or `lib`, and `include`. */
function toolkitRoots(places: SearchPlaces): string[] {
  const { CUDA_HOME, CUDA_PATH } = places.environment;
  const named = [CUDA_HOME, CUDA_PATH].filter((root): root is string => Boolean(root));
  const wheels = sitePackages(places).flatMap((packages) => {
    const nvidia = join(packages, 'nvidia');
    return [join(nvidia, 'cu13'), ...childrenOf(nvidia, '')];
  });
  return [...new Set([...named, '/usr/local/cuda', ...childrenOf('/usr/local', 'cuda-'), ...wheels])];
}

/** Folders that CUDA's shared libraries may lie in, in the order they are tried. */
export function libraryFolders(places: SearchPlaces): string[] {
  const inside = ['lib64', 'lib', 'targets/x86_64-linux/lib', 'targets/sbsa-linux/lib'];
  const folders = toolkitRoots(places).flatMap((root) => inside.map((folder) => join(root, folder)));
  folders.push('/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64');
  return folders.filter((folder) => existsSync(folder));
}

/**
 * The folder of `cuda_bf16.h` and its kin.
 * @throws DeviceError DEVICE_LIBRARY_MISSING with the fix
 */
export function findHeaders(places: SearchPlaces, extra: readonly string[] = []): string {
  const inside = ['include', 'targets/x86_64-linux/include', 'targets/sbsa-linux/include'];
  const roots = [...extra, ...extra.map((folder) => dirname(folder)), ...toolkitRoots(places)];
  const folders = [...extra, ...roots.flatMap((root) => inside.map((folder) => join(root, folder)))];
  const found = folders.find((folder) => existsSync(join(folder, headerFile)));
  if (found) return found;
  throw missing(`CUDA's headers (${headerFile})`, headerWheel);
}

/**
 * Loads a library of the toolkit: from the folders that the user named, else by the loader's own search, else from known places.
 * @throws DeviceError DEVICE_LIBRARY_MISSING with the fix
 */
export function findLibrary(
  name: keyof typeof libraries,
  places: SearchPlaces,
  extra: readonly string[] = [],
): LoadedLibrary {
  const { files, wheel } = libraries[name];
  for (const file of files) {
    const candidates = [...extra.map((folder) => join(folder, file)), file];
    for (const path of candidates) {
      const library = tryLoad(path);
      if (library) return library;
    }
  }
  for (const folder of libraryFolders(places)) {
    for (const file of files) {
      const path = join(folder, file);
      const library = existsSync(path) ? tryLoad(path) : undefined;
      if (library) return library;
    }
  }
  throw missing(files[0], wheel);
}

function missing(what: string, wheel: string): DeviceError {
  const fix =
    `install the CUDA toolkit 13 (or 12.8 and newer), or 'pip install ${wheel}', or name its folder with ` +
    '--device-option library=FOLDER';
  return new DeviceError(
    'DEVICE_LIBRARY_MISSING',
    `the cuda device needs ${what}, which is not found: ${fix}`,
  );
}

/** `libnvrtc` opens `libnvrtc-builtins` by name, which the loader knows only once it is loaded: this is the file beside it. */
export function builtinsBeside(nvrtcPath: string, folders: readonly string[]): string | undefined {
  const own = nvrtcPath.includes('/') ? [dirname(nvrtcPath)] : [];
  for (const folder of [...own, ...folders]) {
    const files = existsSync(folder) ? readdirSync(folder) : [];
    const file = files.find((name) => /^libnvrtc-builtins\.so\.\d/.test(name));
    if (file) return join(folder, file);
  }
  return undefined;
}
