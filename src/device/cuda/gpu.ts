import { homedir } from 'node:os';
import { assert } from '../../base/errors.ts';
import { DeviceError } from '../errors.ts';
import { bindCublasLt, type CublasLt, checkCublas } from './cublaslt.ts';
import { type Driver, deviceAttributes, type Handle, handleFrom, loadDriver } from './driver.ts';
import { findLibrary, type SearchPlaces } from './find-libraries.ts';
import { ModuleCache, moduleCacheFolder } from './module-cache.ts';
import { KernelCompiler } from './nvrtc.ts';

/** The oldest GPUs whose instructions the kernels use (Ampere: bfloat16 tensor cores, asynchronous copies). */
const capabilityMin = 80;

/** What a GPU says about itself. */
export interface GpuFacts {
  readonly ordinal: number;
  readonly name: string;
  /** Compute capability, 90 for 9.0. */
  readonly capability: number;
  readonly multiprocessors: number;
  readonly memoryBytes: number;
  readonly l2Bytes: number;
  readonly sharedBytesMax: number;
  /** 13000 is 13.0. */
  readonly driverVersion: number;
}

/** NVRTC's name of the architecture: Hopper and Blackwell have instructions of their own behind the `a`. */
export function architectureOf(capability: number): string {
  return capability === 90 || capability === 100 ? `sm_${capability}a` : `sm_${capability}`;
}

/** One GPU, opened: its context is current on this thread, with one stream, the compiler's kernels and cuBLASLt. */
export class Gpu {
  readonly driver: Driver;
  readonly facts: GpuFacts;
  readonly stream: Handle;
  readonly modules: ModuleCache;
  readonly cublas: CublasLt;
  readonly cublasHandle: Handle;
  readonly compiler: KernelCompiler;
  readonly #device: number;

  /** @throws DeviceError where a library is missing, or there is no such GPU, or it is too old */
  constructor(ordinal: number, folders: readonly string[], environment: SearchPlaces['environment']) {
    const places: SearchPlaces = { environment, home: homedir() };
    this.driver = loadDriver();
    this.facts = readFacts(this.driver, ordinal);
    const { capability, name } = this.facts;
    if (capability < capabilityMin) {
      const fix = 'use an Ampere, Ada, Hopper or Blackwell GPU, or --device ggml';
      throw new DeviceError(
        'DEVICE_LIBRARY_MISMATCH',
        `${name} has compute capability ${capability / 10}: ${fix}`,
      );
    }
    this.compiler = new KernelCompiler(places, folders);
    this.cublas = bindCublasLt(findLibrary('cublasLt', places, folders));
    this.#device = deviceOf(this.driver, ordinal);
    const context = handleFrom((out) => this.driver.cuDevicePrimaryCtxRetain(out, this.#device));
    this.driver.cuCtxSetCurrent(context);
    const nonBlocking = 1;
    this.stream = handleFrom((out) => this.driver.cuStreamCreate(out, nonBlocking));
    this.cublasHandle = handleFrom((out) => {
      checkCublas(this.cublas.calls.cublasLtCreate(out), 'cublasLtCreate');
      return 0;
    });
    const folder = moduleCacheFolder(environment);
    this.modules = new ModuleCache(this.driver, () => this.compiler, architectureOf(capability), folder);
  }

  /** Bytes that may still be allocated. */
  freeBytes(): number {
    const free = new BigUint64Array(1);
    this.driver.cuMemGetInfo_v2(free, new BigUint64Array(1));
    return Number(free[0]);
  }

  synchronize(): void {
    this.driver.cuStreamSynchronize(this.stream);
  }

  close(): void {
    this.synchronize();
    this.modules.close();
    this.cublas.calls.cublasLtDestroy(this.cublasHandle);
    this.driver.cuStreamDestroy_v2(this.stream);
    this.driver.cuDevicePrimaryCtxRelease_v2(this.#device);
  }
}

function deviceOf(driver: Driver, ordinal: number): number {
  const out = new Int32Array(1);
  driver.cuDeviceGetCount(out);
  const [count = 0] = out;
  if (!Number.isInteger(ordinal) || ordinal < 0 || ordinal >= count) {
    throw new DeviceError(
      'DEVICE_OPTION_INVALID',
      `there is no GPU ${ordinal}: this machine has ${count}, from 0`,
    );
  }
  driver.cuDeviceGet(out, ordinal);
  assert(out[0] !== undefined, 'a device');
  return out[0];
}

/** Reads what `nereid doctor` and the kernels' grids need. */
export function readFacts(driver: Driver, ordinal: number): GpuFacts {
  const device = deviceOf(driver, ordinal);
  const out = new Int32Array(1);
  const attribute = (code: number): number => {
    driver.cuDeviceGetAttribute(out, code, device);
    return out[0] ?? 0;
  };
  const name = new Uint8Array(256);
  driver.cuDeviceGetName(name, name.length, device);
  const bytes = new BigUint64Array(1);
  driver.cuDeviceTotalMem_v2(bytes, device);
  driver.cuDriverGetVersion(out);
  const [driverVersion = 0] = out;
  return {
    ordinal,
    name: new TextDecoder().decode(name.subarray(0, name.indexOf(0))),
    capability:
      attribute(deviceAttributes.computeCapabilityMajor) * 10 +
      attribute(deviceAttributes.computeCapabilityMinor),
    multiprocessors: attribute(deviceAttributes.multiprocessors),
    memoryBytes: Number(bytes[0]),
    l2Bytes: attribute(deviceAttributes.l2Bytes),
    sharedBytesMax: attribute(deviceAttributes.sharedMemoryPerBlockOptin),
    driverVersion,
  };
}
