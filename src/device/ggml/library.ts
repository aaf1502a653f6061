import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import koffi from 'koffi';
import { definite, messageOf } from '../../base/errors.ts';
import { dtypeNames, dtypes } from '../../graph/dtype.ts';
import { DeviceError } from '../errors.ts';
import { bindPart, type Ggml } from './ffi.ts';
import type { BackendDevice, BufferType } from './handles.ts';
import { checkTensorLayout } from './tensor-struct.ts';

/** ggml, loaded once a process: its functions, and the CPU device it picked. */
export interface GgmlLibrary {
  readonly ggml: Ggml;
  readonly cpu: BackendDevice;
  readonly cpuBufferType: BufferType;
  /** Buffer types that store weights in another order for faster kernels (`CPU_REPACK`, `AMX`, …), best first. */
  readonly extraBufferTypes: readonly BufferType[];
  readonly folder: string;
  /** File of the CPU backend that was picked, e.g. `libggml-cpu-zen4.so`; empty where the system cannot tell. */
  readonly cpuLibrary: string;
  /** ggml's version and the commit it was built from. */
  readonly version: string;
  readonly commit: string;
  /** Instruction sets and features that the picked CPU backend was built with. */
  readonly features: Readonly<Record<string, string>>;
}

const suffix = { darwin: '.dylib', win32: '.dll' }[process.platform as string] ?? '.so';
const cpuDeviceType = 0;

let loaded: GgmlLibrary | undefined;

/**
 * Loads ggml from `folder`, or from the installed `@node-llama-cpp/<platform>` package. Libraries stay loaded until the process ends (their
 * backends cannot be unloaded safely), so a second call returns the first one's result.
 * @throws DeviceError DEVICE_LIBRARY_MISSING or DEVICE_LIBRARY_MISMATCH
 */
export function loadGgml(folder?: string): GgmlLibrary {
  if (loaded && (folder === undefined || folder === loaded.folder)) return loaded;
  if (loaded) {
    const fix = 'start another process for another library';
    throw new DeviceError('DEVICE_LIBRARY_MISMATCH', `ggml is already loaded from ${loaded.folder}; ${fix}`);
  }
  loaded = load(folder ?? packageFolder());
  return loaded;
}

/** The folder of ggml's libraries in the npm package for this platform (without CUDA or Vulkan). */
export function packageFolder(): string {
  const platform = process.platform === 'darwin' ? 'mac' : process.platform === 'win32' ? 'win' : 'linux';
  const names =
    platform === 'mac' && process.arch === 'arm64'
      ? ['mac-arm64-metal']
      : [`${platform}-${process.arch}`, `${platform}-${process.arch === 'arm' ? 'armv7l' : process.arch}`];
  const require = createRequire(import.meta.url);
  for (const name of names) {
    const root = attemptResolve(require, `@node-llama-cpp/${name}`);
    const folder = root && join(root, 'bins', name);
    if (folder && existsSync(folder)) return folder;
  }
  const fix = 'npm install without --omit=optional, or name a folder with --device-option library=FOLDER';
  throw new DeviceError(
    'DEVICE_LIBRARY_MISSING',
    `ggml's package @node-llama-cpp/${names[0]} is not installed: ${fix}`,
  );
}

function attemptResolve(require: NodeJS.Require, name: string): string | undefined {
  try {
    return dirname(dirname(require.resolve(name)));
  } catch {
    return undefined;
  }
}

/** File names carry a release tag (`libggml.v0.5.0.so`), hence by prefix. */
function findLibrary(folder: string, stem: string): string {
  const files = existsSync(folder) ? readdirSync(folder) : [];
  const prefix = process.platform === 'win32' ? stem : `lib${stem}`;
  const file = files.find((name) => name.startsWith(`${prefix}.`) && name.includes(suffix));
  if (file) return join(folder, file);
  throw new DeviceError(
    'DEVICE_LIBRARY_MISSING',
    `no ${prefix}*${suffix} in ${folder}: reinstall the ggml package`,
  );
}

function load(folder: string): GgmlLibrary {
  defineStructs();
  const basePath = findLibrary(folder, 'ggml-base');
  const registryPath = findLibrary(folder, 'ggml');
  const base = openLibrary(basePath);
  const registry = openLibrary(registryPath);
  const partial = {
    ...bindPart('base', basePath, (name, result, parameters) => base.func(name, result, parameters)),
    ...bindPart('registry', registryPath, (name, result, parameters) =>
      registry.func(name, result, parameters),
    ),
  } as Ggml;
  silence(partial);
  partial.ggml_backend_load_all_from_path(folder);
  const cpu = cpuDevice(partial, folder);
  const cpuRegistry = partial.ggml_backend_dev_backend_reg(cpu);
  const ggml: Ggml = {
    ...partial,
    ...bindPart('cpu', folder, (name, result, parameters) => {
      const address = partial.ggml_backend_reg_get_proc_address(cpuRegistry, name);
      return address ? koffi.decode(address, koffi.proto(result, parameters)) : undefined;
    }),
  };
  checkTypes(ggml, basePath);
  checkTensorLayout(ggml, basePath);
  return {
    ggml,
    cpu,
    cpuBufferType: ggml.ggml_backend_dev_buffer_type(cpu),
    extraBufferTypes: pointerList(ggml.ggml_backend_dev_get_extra_bufts(cpu)) as BufferType[],
    folder,
    cpuLibrary: cpuLibraryFile(),
    version: ggml.ggml_version(),
    commit: ggml.ggml_commit(),
    features: readFeatures(ggml.ggml_backend_get_features(cpuRegistry)),
  };
}

function openLibrary(path: string) {
  try {
    return koffi.load(path);
  } catch (cause) {
    throw new DeviceError('DEVICE_LIBRARY_MISSING', `cannot load ${path}: ${messageOf(cause)}`, { cause });
  }
}

let structsDefined = false;

/** koffi's type names are global: once a process, also when loading failed before. */
function defineStructs(): void {
  if (structsDefined) return;
  koffi.struct('ggml_init_params', { mem_size: 'size_t', mem_buffer: 'void *', no_alloc: 'bool' });
  structsDefined = true;
}

/**
 * ggml writes its log to stderr unless given a callback, and it logs from its own threads, where no JavaScript may run. So it gets a C
 * function that does nothing with its arguments: libc's `abs`. Failed assertions are still printed, by `ggml_abort` itself.
 */
function silence(ggml: Ggml): void {
  if (process.platform === 'win32' || process.env.NEREID_GGML_LOG) return;
  ggml.ggml_log_set(koffi.load(null).symbol('abs') as bigint, null);
}

function cpuDevice(ggml: Ggml, folder: string): BackendDevice {
  for (let index = 0; index < ggml.ggml_backend_dev_count(); index++) {
    const device = ggml.ggml_backend_dev_get(index);
    if (ggml.ggml_backend_dev_type(device) === cpuDeviceType) return device;
  }
  throw new DeviceError('DEVICE_LIBRARY_MISSING', `no CPU backend in ${folder} runs on this processor`);
}

/** Sizes of all storage types must be those that files were laid out with. */
function checkTypes(ggml: Ggml, path: string): void {
  for (const name of dtypeNames) {
    const { ggmlId, blockBytes, blockElements } = dtypes[name];
    const bytes = ggml.ggml_type_size(ggmlId);
    const elements = ggml.ggml_blck_size(ggmlId);
    if (bytes === blockBytes && elements === blockElements) continue;
    const found = `${elements} elements in ${bytes} bytes`;
    const wanted = `${blockElements} in ${blockBytes}`;
    throw new DeviceError(
      'DEVICE_LIBRARY_MISMATCH',
      `${path}: a block of ${name} is ${found}, Nereid expects ${wanted}`,
    );
  }
}

/** A null-terminated array of pointers. */
function pointerList(address: bigint | null): bigint[] {
  const pointers: bigint[] = [];
  const countMax = 16;
  for (let index = 0; address && index < countMax; index++) {
    const pointer = koffi.decode(address, index * 8, 'void *') as bigint | null;
    if (!pointer) break;
    pointers.push(pointer);
  }
  return pointers;
}

/** A null-terminated array of `struct { const char * name; const char * value; }`. */
function readFeatures(address: bigint | null): Record<string, string> {
  const features: Record<string, string> = {};
  const countMax = 128;
  for (let index = 0; address && index < countMax; index++) {
    const name = koffi.decode(address, index * 16, 'const char *') as string | null;
    if (!name) break;
    features[name] = definite(koffi.decode(address, index * 16 + 8, 'const char *') as string | null, name);
  }
  return features;
}

/** Which of the package's CPU libraries is mapped into this process: the one that was picked. */
function cpuLibraryFile(): string {
  if (process.platform !== 'linux') return '';
  const file = /(libggml-cpu[^/\s]*\.so)$/m.exec(readFileSync('/proc/self/maps', 'utf8'));
  return file?.[1] ?? '';
}
