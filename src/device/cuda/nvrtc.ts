import { DeviceError } from '../errors.ts';
import { type Bound, bindTable, declare, type LoadedLibrary, load } from './ffi.ts';
import {
  builtinsBeside,
  findHeaders,
  findLibrary,
  libraryFolders,
  type SearchPlaces,
} from './find-libraries.ts';

type Program = bigint;

/** Every function of `libnvrtc` that Nereid calls. */
export const nvrtcTable = {
  nvrtcVersion: declare<(major: Int32Array, minor: Int32Array) => number>('p p'),
  nvrtcGetErrorString: declare<(status: number) => string>('int', 'str'),
  nvrtcCreateProgram:
    declare<
      (
        program: BigUint64Array,
        source: string,
        name: string,
        headers: number,
        texts: null,
        names: null,
      ) => number
    >('p str str int p p'),
  nvrtcCompileProgram: declare<(program: Program, count: number, options: string[]) => number>('p int str*'),
  nvrtcGetProgramLogSize: declare<(program: Program, bytes: BigUint64Array) => number>('p p'),
  nvrtcGetProgramLog: declare<(program: Program, log: Uint8Array) => number>('p p'),
  nvrtcGetCUBINSize: declare<(program: Program, bytes: BigUint64Array) => number>('p p'),
  nvrtcGetCUBIN: declare<(program: Program, image: Uint8Array) => number>('p p'),
  nvrtcDestroyProgram: declare<(program: BigUint64Array) => number>('p'),
} as const;

/** Source text, and what it is compiled for. */
export interface CompileRequest {
  /** For error messages: the kernel's file. */
  name: string;
  source: string;
  /** `sm_90a` and its kin. */
  architecture: string;
  /** Folder of files that the source includes beside CUDA's own. */
  includeFolder: string;
  /** Preprocessor macros. */
  defines: Readonly<Record<string, string | number>>;
}

/** A compiled kernel file, and what the compiler said (registers and spills among it). */
export interface CompiledModule {
  image: Uint8Array;
  log: string;
}

/** CUDA's run-time compiler. It needs no GPU: tests compile every kernel for every target. */
export class KernelCompiler {
  /** `13.0` */
  readonly version: string;
  readonly path: string;
  readonly headers: string;
  readonly #nvrtc: Bound<typeof nvrtcTable>;

  /** @throws DeviceError DEVICE_LIBRARY_MISSING naming what to install */
  constructor(places: SearchPlaces, extra: readonly string[] = []) {
    const library: LoadedLibrary = findLibrary('nvrtc', places, extra);
    const builtins = builtinsBeside(library.path, [...extra, ...libraryFolders(places)]);
    if (builtins) load(builtins);
    this.path = library.path;
    this.headers = findHeaders(places, extra);
    this.#nvrtc = bindTable(library, nvrtcTable);
    const major = new Int32Array(1);
    const minor = new Int32Array(1);
    this.#nvrtc.nvrtcVersion(major, minor);
    this.version = `${major[0]}.${minor[0]}`;
  }

  /** @throws DeviceError DEVICE_FAILED with the compiler's messages */
  compile(request: CompileRequest): CompiledModule {
    const nvrtc = this.#nvrtc;
    const out = new BigUint64Array(1);
    this.#check(nvrtc.nvrtcCreateProgram(out, request.source, request.name, 0, null, null), request.name);
    const program = out[0] ?? 0n;
    try {
      const options = [
        `--gpu-architecture=${request.architecture}`,
        '--std=c++17',
        '--device-as-default-execution-space',
        '--extra-device-vectorization',
        '--ptxas-options=-v',
        `--include-path=${this.headers}`,
        `--include-path=${request.includeFolder}`,
        ...Object.entries(request.defines).map(([name, value]) => `--define-macro=${name}=${value}`),
      ];
      const status = nvrtc.nvrtcCompileProgram(program, options.length, options);
      const log = this.#log(program);
      if (status !== 0) {
        const reason = nvrtc.nvrtcGetErrorString(status);
        throw new DeviceError('DEVICE_FAILED', `${request.name} does not compile (${reason}):\n${log}`);
      }
      const size = new BigUint64Array(1);
      this.#check(nvrtc.nvrtcGetCUBINSize(program, size), request.name);
      const image = new Uint8Array(Number(size[0]));
      this.#check(nvrtc.nvrtcGetCUBIN(program, image), request.name);
      return { image, log };
    } finally {
      nvrtc.nvrtcDestroyProgram(out);
    }
  }

  #log(program: Program): string {
    const size = new BigUint64Array(1);
    this.#nvrtc.nvrtcGetProgramLogSize(program, size);
    const bytes = new Uint8Array(Number(size[0]));
    if (bytes.length > 0) this.#nvrtc.nvrtcGetProgramLog(program, bytes);
    return new TextDecoder().decode(bytes.subarray(0, Math.max(0, bytes.length - 1)));
  }

  #check(status: number, name: string): void {
    if (status === 0) return;
    throw new DeviceError(
      'DEVICE_FAILED',
      `${name}: NVRTC failed: ${this.#nvrtc.nvrtcGetErrorString(status)}`,
    );
  }
}
