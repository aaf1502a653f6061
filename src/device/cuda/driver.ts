import { existsSync } from 'node:fs';
import { assert } from '../../base/errors.ts';
import { DeviceError } from '../errors.ts';
import { type Bound, bindTable, declare, type LoadedLibrary, tryLoad } from './ffi.ts';
import { driverFiles } from './find-libraries.ts';

/** A driver object: a context, stream, event, module, function or graph. */
export type Handle = bigint;
/** Where a C function writes a handle or a size. */
type Out = BigUint64Array;
/** An address on the GPU: a plain number, below 2^53, so that it can be computed with. */
export type DevicePointer = number;

/** Every function of `libcuda` that Nereid calls: names as exported (CUDA 12.8 and newer). */
export const driverTable = {
  cuInit: declare<(flags: number) => number>('u32'),
  cuDriverGetVersion: declare<(version: Int32Array) => number>('p'),
  cuDeviceGetCount: declare<(count: Int32Array) => number>('p'),
  cuDeviceGet: declare<(device: Int32Array, ordinal: number) => number>('p int'),
  cuDeviceGetName: declare<(name: Uint8Array, length: number, device: number) => number>('p int int'),
  cuDeviceGetAttribute:
    declare<(value: Int32Array, attribute: number, device: number) => number>('p int int'),
  cuDeviceTotalMem_v2: declare<(bytes: Out, device: number) => number>('p int'),
  cuDevicePrimaryCtxRetain: declare<(context: Out, device: number) => number>('p int'),
  cuDevicePrimaryCtxRelease_v2: declare<(device: number) => number>('int'),
  cuCtxSetCurrent: declare<(context: Handle) => number>('p'),
  cuMemGetInfo_v2: declare<(free: Out, total: Out) => number>('p p'),
  cuMemAlloc_v2: declare<(pointer: Out, bytes: number) => number>('p size_t'),
  cuMemFree_v2: declare<(pointer: DevicePointer) => number>('u64'),
  cuMemHostAlloc: declare<(pointer: Out, bytes: number, flags: number) => number>('p size_t u32'),
  cuMemFreeHost: declare<(pointer: Handle) => number>('p'),
  cuMemcpyHtoD_v2:
    declare<(to: DevicePointer, from: Uint8Array | Handle, bytes: number) => number>('u64 p size_t'),
  cuMemcpyDtoH_v2:
    declare<(to: Uint8Array | Handle, from: DevicePointer, bytes: number) => number>('p u64 size_t'),
  cuMemcpyHtoDAsync_v2:
    declare<(to: DevicePointer, from: Handle, bytes: number, stream: Handle) => number>('u64 p size_t p'),
  cuMemcpyDtoHAsync_v2:
    declare<(to: Handle, from: DevicePointer, bytes: number, stream: Handle) => number>('p u64 size_t p'),
  cuMemcpyDtoDAsync_v2:
    declare<(to: DevicePointer, from: DevicePointer, bytes: number, stream: Handle) => number>(
      'u64 u64 size_t p',
    ),
  cuMemsetD8Async:
    declare<(to: DevicePointer, value: number, bytes: number, stream: Handle) => number>(
      'u64 uint8_t size_t p',
    ),
  cuModuleLoadData: declare<(module: Out, image: Uint8Array) => number>('p p'),
  cuModuleUnload: declare<(module: Handle) => number>('p'),
  cuModuleGetFunction: declare<(kernel: Out, module: Handle, name: string) => number>('p p str'),
  cuFuncSetAttribute: declare<(kernel: Handle, attribute: number, value: number) => number>('p int int'),
  cuLaunchKernelEx:
    declare<(config: Handle, kernel: Handle, parameters: Handle, extra: null) => number>('p p p p'),
  cuStreamCreate: declare<(stream: Out, flags: number) => number>('p u32'),
  cuStreamDestroy_v2: declare<(stream: Handle) => number>('p'),
  cuStreamSynchronize: declare<(stream: Handle) => number>('p'),
  cuStreamBeginCapture_v2: declare<(stream: Handle, mode: number) => number>('p int'),
  cuStreamEndCapture: declare<(stream: Handle, graph: Out) => number>('p p'),
  cuEventCreate: declare<(event: Out, flags: number) => number>('p u32'),
  cuEventDestroy_v2: declare<(event: Handle) => number>('p'),
  cuEventRecord: declare<(event: Handle, stream: Handle) => number>('p p'),
  cuEventSynchronize: declare<(event: Handle) => number>('p'),
  cuEventElapsedTime_v2: declare<(milliseconds: Float32Array, start: Handle, end: Handle) => number>('p p p'),
  cuGraphInstantiateWithFlags: declare<(executable: Out, graph: Handle, flags: number) => number>('p p u64'),
  cuGraphLaunch: declare<(executable: Handle, stream: Handle) => number>('p p'),
  cuGraphDestroy: declare<(graph: Handle) => number>('p'),
  cuGraphExecDestroy: declare<(executable: Handle) => number>('p'),
} as const;

/** The driver's functions, checked: each throws where the driver reports an error. */
export type Driver = Bound<typeof driverTable> & { readonly path: string };

/** `CUdevice_attribute` values. */
export const deviceAttributes = {
  multiprocessors: 16,
  l2Bytes: 38,
  computeCapabilityMajor: 75,
  computeCapabilityMinor: 76,
  sharedMemoryPerBlockOptin: 97,
} as const;

/** `CUfunction_attribute` values. */
export const functionAttributes = { dynamicSharedBytesMax: 8 } as const;

const outOfMemory = 2;
const noDevice = 100;

/** Functions whose status the caller reads itself. */
const unchecked = new Set(['cuInit']);

/**
 * Loads the driver's library and starts it.
 * @throws DeviceError DEVICE_LIBRARY_MISSING where there is no NVIDIA driver or no GPU
 */
export function loadDriver(): Driver {
  let library: LoadedLibrary | undefined;
  for (const file of driverFiles) library ??= tryLoad(file);
  const mounted = '/usr/local/nvidia/lib64/libcuda.so.1';
  if (!library && existsSync(mounted)) library = tryLoad(mounted);
  if (!library) {
    const fix = 'install the NVIDIA driver (570 or newer), or use --device ggml';
    throw new DeviceError('DEVICE_LIBRARY_MISSING', `no NVIDIA driver (${driverFiles[0]}) is found: ${fix}`);
  }
  const raw = bindTable(library, driverTable);
  const status = raw.cuInit(0);
  if (status !== 0) {
    const what = status === noDevice ? 'finds no GPU' : `does not start (CUDA error ${status})`;
    throw new DeviceError(
      'DEVICE_LIBRARY_MISSING',
      `the NVIDIA driver ${what}: look at nvidia-smi, or use --device ggml`,
    );
  }
  return { ...checked(raw), path: library.path };
}

/** Wraps each function so that a status other than 0 throws with the function's name and the error's. */
function checked(raw: Bound<typeof driverTable>): Bound<typeof driverTable> {
  const wrapped: Record<string, unknown> = {};
  for (const [name, call] of Object.entries(raw)) {
    const callable = call as (...values: unknown[]) => number;
    wrapped[name] = unchecked.has(name)
      ? callable
      : (...values: unknown[]) => {
          const status = callable(...values);
          if (status !== 0) throw driverError(name, status);
          return 0;
        };
  }
  return wrapped as Bound<typeof driverTable>;
}

/** The error of a driver call that failed. */
export function driverError(call: string, status: number): DeviceError {
  if (status === outOfMemory) {
    const fix = 'give a smaller --kv-cache-size or --max-batch-tokens, or free the GPU of other processes';
    return new DeviceError('DEVICE_OUT_OF_MEMORY', `${call}: the GPU is out of memory: ${fix}`);
  }
  return new DeviceError('DEVICE_FAILED', `${call} failed with CUDA error ${status} (see cuda.h, CUresult)`);
}

/** Calls a function that writes one handle. */
export function handleFrom(call: (out: Out) => number): Handle {
  const out = new BigUint64Array(1);
  call(out);
  const [handle] = out;
  assert(handle !== undefined, 'a handle');
  return handle;
}
