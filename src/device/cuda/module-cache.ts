import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { packageVersion } from '../../base/package-version.ts';
import { type Driver, functionAttributes, type Handle, handleFrom } from './driver.ts';
import type { KernelCompiler } from './nvrtc.ts';

/** Where the kernels' sources lie: beside this module, in `src/` and in `dist/`. */
export const kernelFolder = join(import.meta.dirname, 'kernels');

/** What kernels include lies beside them: a change of any compiles all anew. */
const headerEnding = '.cuh';

function headers(): string[] {
  const names = readdirSync(kernelFolder).filter((name) => name.endsWith(headerEnding));
  return names.sort().map((name) => readFileSync(join(kernelFolder, name), 'utf8'));
}

/** The user's cache folder for compiled kernels. */
export function moduleCacheFolder(environment: Readonly<Record<string, string | undefined>>): string {
  const base = environment.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(base, 'nereid', 'cuda-kernels');
}

/** Dynamic shared memory that a kernel gets without asking: 48 KiB less what it declares itself. */
const sharedBytesFree = 40 * 1024;

/** What a kernel file is compiled with. */
export type Defines = Readonly<Record<string, string | number>>;

/**
 * The key of a compiled kernel: source and what it includes, macros, GPU architecture, compiler and Nereid's version. Anything else is
 * another file.
 */
export function moduleKey(sources: readonly string[], defines: Defines, target: readonly string[]): string {
  const hash = createHash('sha256');
  const macros = Object.entries(defines).sort(([a], [b]) => (a < b ? -1 : 1));
  hash.update(JSON.stringify([sources, macros, target, packageVersion()]));
  return hash.digest('hex').slice(0, 32);
}

/** Kernels by file and macros: compiled once a machine, loaded once a process. */
export class ModuleCache {
  readonly #driver: Driver;
  readonly #compiler: () => KernelCompiler;
  readonly #architecture: string;
  readonly #folder: string;
  readonly #kernels = new Map<string, { handle: Handle; sharedBytes: number }>();
  readonly #modules: Handle[] = [];
  #headers: readonly string[] | undefined;

  /** @param compiler asked for only when a kernel is not in the cache */
  constructor(driver: Driver, compiler: () => KernelCompiler, architecture: string, folder: string) {
    this.#driver = driver;
    this.#compiler = compiler;
    this.#architecture = architecture;
    this.#folder = folder;
  }

  /** The kernel `name` of `<file>.cu`, allowed `sharedBytes` of dynamic shared memory. */
  kernel(file: string, name: string, defines: Defines = {}, sharedBytes = 0): Handle {
    const key = `${file} ${name} ${JSON.stringify(defines)}`;
    const known = this.#kernels.get(key) ?? {
      handle: this.#load(file, name, defines),
      sharedBytes: sharedBytesFree,
    };
    this.#kernels.set(key, known);
    if (sharedBytes > known.sharedBytes) {
      this.#driver.cuFuncSetAttribute(known.handle, functionAttributes.dynamicSharedBytesMax, sharedBytes);
      known.sharedBytes = sharedBytes;
    }
    return known.handle;
  }

  #load(file: string, name: string, defines: Defines): Handle {
    const module = handleFrom((out) => this.#driver.cuModuleLoadData(out, this.#image(file, defines)));
    this.#modules.push(module);
    return handleFrom((out) => this.#driver.cuModuleGetFunction(out, module, name));
  }

  #image(file: string, defines: Defines): Uint8Array {
    const source = readFileSync(join(kernelFolder, `${file}.cu`), 'utf8');
    this.#headers ??= headers();
    const compiler = this.#compiler();
    const key = moduleKey([source, ...this.#headers], defines, [this.#architecture, compiler.version]);
    const path = join(this.#folder, `${file}-${this.#architecture}-${key}.cubin`);
    if (existsSync(path)) return readFileSync(path);
    const { image } = compiler.compile({
      name: `${file}.cu`,
      source,
      architecture: this.#architecture,
      includeFolder: kernelFolder,
      defines,
    });
    mkdirSync(this.#folder, { recursive: true });
    // Processes race: each writes its own file, and a rename is all or nothing.
    const temporary = `${path}.${process.pid}`;
    writeFileSync(temporary, image);
    renameSync(temporary, path);
    return image;
  }

  close(): void {
    for (const module of this.#modules) this.#driver.cuModuleUnload(module);
    this.#modules.length = 0;
    this.#kernels.clear();
  }
}
