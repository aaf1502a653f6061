import { DeviceError } from '../errors.ts';
import type { DevicePointer, Handle } from './driver.ts';
import { type Bound, bindTable, declare, type LoadedLibrary } from './ffi.ts';

type Out = BigUint64Array;

/** Every function of `libcublasLt` that Nereid calls. */
export const cublasLtTable = {
  cublasLtGetVersion: declare<() => number>('', 'size_t'),
  cublasLtCreate: declare<(handle: Out) => number>('p'),
  cublasLtDestroy: declare<(handle: Handle) => number>('p'),
  cublasLtMatmulDescCreate:
    declare<(description: Out, compute: number, scale: number) => number>('p int int'),
  cublasLtMatmulDescDestroy: declare<(description: Handle) => number>('p'),
  cublasLtMatmulDescSetAttribute:
    declare<(description: Handle, attribute: number, value: Uint8Array, bytes: number) => number>(
      'p int p size_t',
    ),
  cublasLtMatrixLayoutCreate:
    declare<(layout: Out, type: number, rows: number, columns: number, leading: number) => number>(
      'p int u64 u64 int64_t',
    ),
  cublasLtMatrixLayoutSetAttribute:
    declare<(layout: Handle, attribute: number, value: Uint8Array, bytes: number) => number>(
      'p int p size_t',
    ),
  cublasLtMatrixLayoutDestroy: declare<(layout: Handle) => number>('p'),
  cublasLtMatmulPreferenceCreate: declare<(preference: Out) => number>('p'),
  cublasLtMatmulPreferenceDestroy: declare<(preference: Handle) => number>('p'),
  cublasLtMatmulPreferenceSetAttribute:
    declare<(preference: Handle, attribute: number, value: Uint8Array, bytes: number) => number>(
      'p int p size_t',
    ),
  cublasLtMatmulAlgoGetHeuristic:
    declare<
      (
        handle: Handle,
        description: Handle,
        a: Handle,
        b: Handle,
        c: Handle,
        d: Handle,
        preference: Handle,
        requested: number,
        results: Uint8Array,
        returned: Int32Array,
      ) => number
    >('p p p p p p p int p p'),
  cublasLtMatmul: declare<
    (
      handle: Handle,
      description: Handle,
      alpha: Float32Array,
      a: DevicePointer,
      aLayout: Handle,
      b: DevicePointer,
      bLayout: Handle,
      beta: Float32Array,
      c: DevicePointer,
      cLayout: Handle,
      d: DevicePointer,
      dLayout: Handle,
      algorithm: Uint8Array,
      workspace: DevicePointer,
      workspaceBytes: number,
      stream: Handle,
    ) => number
  >('p p p u64 p u64 p p u64 p u64 p p u64 size_t p'),
} as const;

/** cuBLASLt's functions, and its own version (13.1.0 is 130100). */
export interface CublasLt {
  readonly calls: Bound<typeof cublasLtTable>;
  readonly version: number;
  readonly path: string;
}

/** `cudaDataType_t` by storage type. */
export const cudaDataTypes = { f32: 0, f16: 2, bf16: 14, e4m3: 28 } as const;

/** `cublasComputeType_t`: float32 sums, without TF32. */
export const computeFloat32 = 68;

/** `cublasLtMatmulDescAttributes_t` */
export const matmulAttributes = {
  transposeA: 3,
  transposeB: 4,
  epilogue: 7,
  biasPointer: 8,
  scalePointerA: 17,
  scalePointerB: 18,
  /** int8: 8-bit products add up inside the tensor cores, without float32 sums between. */
  fastAccumulation: 25,
  scaleModeA: 31,
  scaleModeB: 32,
} as const;

/** `cublasLtMatrixLayoutAttribute_t` */
export const layoutAttributes = { batchCount: 5, batchOffset: 6 } as const;

/** `cublasLtMatmulPreferenceAttributes_t` */
export const preferenceWorkspaceBytes = 1;
/** `cublasLtEpilogue_t` */
export const epilogueBias = 4;
/** `cublasLtMatmulMatrixScale_t`: one float32 a row of the matrix. */
export const scaleOuterVector = 3;

/** Bytes of `cublasLtMatmulHeuristicResult_t`, and where its members lie. */
export const heuristicResult = { bytes: 96, workspaceBytesAt: 64, stateAt: 72, algorithmBytes: 64 } as const;

const statusNames: Readonly<Record<number, string>> = {
  1: 'not initialized',
  3: 'out of memory',
  7: 'invalid value',
  8: 'architecture mismatch',
  11: 'mapping error',
  13: 'execution failed',
  14: 'internal error',
  15: 'not supported',
};

/**
 * Throws unless a call of cuBLASLt succeeded.
 * @throws DeviceError DEVICE_FAILED
 */
export function checkCublas(status: number, what: string): void {
  if (status === 0) return;
  const reason = statusNames[status] ?? 'unknown';
  throw new DeviceError('DEVICE_FAILED', `cuBLASLt: ${what} failed with status ${status} (${reason})`);
}

/** @throws DeviceError DEVICE_LIBRARY_MISMATCH where the library lacks a function */
export function bindCublasLt(library: LoadedLibrary): CublasLt {
  const calls = bindTable(library, cublasLtTable);
  return { calls, version: Number(calls.cublasLtGetVersion()), path: library.path };
}
