import { assert, definite } from '../../base/errors.ts';
import { DeviceError } from '../errors.ts';
import { CapturedGraph } from './capture.ts';
import {
  checkCublas,
  computeFloat32,
  cudaDataTypes,
  epilogueBias,
  heuristicResult,
  layoutAttributes,
  matmulAttributes,
  preferenceWorkspaceBytes,
  scaleOuterVector,
} from './cublaslt.ts';
import { type DevicePointer, type Handle, handleFrom } from './driver.ts';
import type { Gpu } from './gpu.ts';

/** Algorithms that are timed for a shape before one is kept, and how often each runs. */
const candidatesDefault = 8;
const timedRuns = 8;

/** cuBLASLt's scratch memory; NVIDIA's own advice for Hopper is 32 MiB. */
export const gemmWorkspaceBytes = 32 * 1024 * 1024;

/** y[rows, outputs] = x[rows, inputs] · weight[outputs, inputs]', row-major; or added to what y holds. */
export interface GemmShape {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Elements between rows. */
  readonly inputStride: number;
  readonly outputStride: number;
  readonly inputType: keyof typeof cudaDataTypes;
  readonly outputType: 'f32' | 'f16' | 'bf16';
  readonly accumulates: boolean;
  readonly hasBias: boolean;
  /** Of e4m3: whether rows' scales are multiplied in; else that is left to who reads the result. */
  readonly isScaled: boolean;
  /** Pieces that the sum over the inputs is cut into: y is [splits, rows, outputs], and its pieces are to be added up. */
  readonly splits: number;
}

/** The addresses of one product. Scales (one float32 a row of x and of weight) belong to e4m3. */
export interface GemmOperands {
  readonly weight: DevicePointer;
  readonly x: DevicePointer;
  readonly y: DevicePointer;
  readonly bias?: DevicePointer;
  readonly weightScales?: DevicePointer;
  readonly inputScales?: DevicePointer;
}

interface Plan {
  description: Handle;
  layouts: readonly [Handle, Handle, Handle];
  algorithm: Uint8Array;
  workspaceBytes: number;
}

/** A product whose operands are set, ready to be queued. */
export type PreparedGemm = () => void;

/** Matrix products by cuBLASLt: the fastest of its algorithms for a shape is found by timing, once. */
export class Gemms {
  readonly #gpu: Gpu;
  readonly #workspace: DevicePointer;
  readonly #candidatesMax: number;
  readonly #algorithms = new Map<string, { algorithm: Uint8Array; workspaceBytes: number }>();
  readonly #handles: { layouts: Handle[]; descriptions: Handle[] } = { layouts: [], descriptions: [] };
  readonly #layouts = new Map<string, readonly [Handle, Handle, Handle]>();
  readonly #supported = new Map<string, boolean>();
  readonly #one = Float32Array.of(1);
  readonly #zero = Float32Array.of(0);

  /**
   * @param workspace {@link gemmWorkspaceBytes} of GPU memory
   * @param candidatesMax algorithms that are timed for a shape
   */
  constructor(gpu: Gpu, workspace: DevicePointer, candidatesMax = candidatesDefault) {
    this.#gpu = gpu;
    this.#workspace = workspace;
    this.#candidatesMax = candidatesMax;
  }

  /**
   * Sets a product up. The first of a shape times the candidates, which overwrites y: prepare all before running any.
   * @param rotation weights of the same shape (of other layers), so that timing does not measure the cache
   */
  prepare(shape: GemmShape, operands: GemmOperands, rotation: readonly DevicePointer[] = []): PreparedGemm {
    const plan = this.#plan(shape, operands, rotation);
    return () => this.#run(plan, shape, operands, operands.weight);
  }

  /** Whether cuBLASLt has an algorithm for a shape on this GPU. */
  supports(shape: GemmShape): boolean {
    const key = JSON.stringify(shape);
    const known = this.#supported.get(key);
    if (known !== undefined) return known;
    // Any aligned address does: nothing is run.
    const at = this.#workspace;
    const operands = { weight: at, x: at, y: at, bias: at, weightScales: at, inputScales: at };
    const isSupported =
      this.#heuristics(this.#describe(shape, operands), this.#layoutsOf(key, shape)).length > 0;
    this.#supported.set(key, isSupported);
    return isSupported;
  }

  #plan(shape: GemmShape, operands: GemmOperands, rotation: readonly DevicePointer[]): Plan {
    const key = JSON.stringify(shape);
    const description = this.#describe(shape, operands);
    const layouts = this.#layoutsOf(key, shape);
    let chosen = this.#algorithms.get(key);
    if (!chosen) {
      chosen = this.#choose(shape, operands, description, layouts, rotation);
      this.#algorithms.set(key, chosen);
    }
    return { description, layouts, ...chosen };
  }

  #describe(shape: GemmShape, operands: GemmOperands): Handle {
    const { calls } = this.#gpu.cublas;
    const description = handleFrom((out) => {
      checkCublas(calls.cublasLtMatmulDescCreate(out, computeFloat32, cudaDataTypes.f32), 'a description');
      return 0;
    });
    this.#handles.descriptions.push(description);
    const set = (attribute: number, value: number | bigint, size = typeof value === 'bigint' ? 8 : 4) => {
      const bytes = new Uint8Array(size);
      const view = new DataView(bytes.buffer);
      if (typeof value === 'bigint') view.setBigUint64(0, value, true);
      else if (size === 1) view.setInt8(0, value);
      else view.setInt32(0, value, true);
      checkCublas(
        calls.cublasLtMatmulDescSetAttribute(description, attribute, bytes, bytes.length),
        `attribute ${attribute}`,
      );
    };
    set(matmulAttributes.transposeA, 1);
    if (shape.hasBias) {
      set(matmulAttributes.epilogue, epilogueBias);
      set(matmulAttributes.biasPointer, BigInt(definite(operands.bias, 'a bias')));
    }
    if (shape.inputType === 'e4m3') {
      set(matmulAttributes.fastAccumulation, 1, 1);
    }
    if (shape.inputType === 'e4m3' && shape.isScaled) {
      set(matmulAttributes.scaleModeA, scaleOuterVector);
      set(matmulAttributes.scaleModeB, scaleOuterVector);
      set(matmulAttributes.scalePointerA, BigInt(definite(operands.weightScales, 'scales of the weight')));
      set(matmulAttributes.scalePointerB, BigInt(definite(operands.inputScales, 'scales of the rows')));
    }
    return description;
  }

  /** Column-major views: A is the weight (transposed), B is x, C and D are y. */
  #layoutsOf(key: string, shape: GemmShape): readonly [Handle, Handle, Handle] {
    const known = this.#layouts.get(key);
    if (known) return known;
    const { rows, inputs, outputs, inputStride, outputStride, inputType, outputType, splits } = shape;
    const own = inputs / splits;
    const layouts = [
      this.#layout(inputType, [own, outputs, inputs], splits, own),
      this.#layout(inputType, [own, rows, inputStride], splits, own),
      this.#layout(outputType, [outputs, rows, outputStride], splits, rows * outputStride),
    ] as const;
    this.#handles.layouts.push(...layouts);
    this.#layouts.set(key, layouts);
    return layouts;
  }

  /** @param offset elements from one piece to the next, where there are several */
  #layout(
    type: keyof typeof cudaDataTypes,
    [height, width, leading]: readonly [number, number, number],
    splits: number,
    offset: number,
  ): Handle {
    const { calls } = this.#gpu.cublas;
    const layout = handleFrom((out) => {
      const status = calls.cublasLtMatrixLayoutCreate(out, cudaDataTypes[type], height, width, leading);
      checkCublas(status, 'a layout');
      return 0;
    });
    if (splits === 1) return layout;
    const count = new Uint8Array(Int32Array.of(splits).buffer);
    const offsets = new Uint8Array(BigInt64Array.of(BigInt(offset)).buffer);
    checkCublas(
      calls.cublasLtMatrixLayoutSetAttribute(layout, layoutAttributes.batchCount, count, 4),
      'a count of pieces',
    );
    checkCublas(
      calls.cublasLtMatrixLayoutSetAttribute(layout, layoutAttributes.batchOffset, offsets, 8),
      'an offset of pieces',
    );
    return layout;
  }

  #choose(
    shape: GemmShape,
    operands: GemmOperands,
    description: Handle,
    layouts: Plan['layouts'],
    rotation: readonly DevicePointer[],
  ): { algorithm: Uint8Array; workspaceBytes: number } {
    const candidates = this.#heuristics(description, layouts);
    if (candidates.length === 0) {
      const { rows, inputs, outputs, inputType } = shape;
      const what = `${rows} × ${inputs} by ${outputs} × ${inputs} in ${inputType}`;
      throw new DeviceError('DEVICE_DTYPE_UNSUPPORTED', `cuBLASLt has no algorithm for ${what}`);
    }
    const weights = rotation.length > 0 ? rotation : [operands.weight];
    let best = candidates[0];
    let bestMs = Number.POSITIVE_INFINITY;
    if (candidates.length === 1) return definite(best, 'an algorithm');
    for (const candidate of candidates) {
      const ms = this.#time({ description, layouts, ...candidate }, shape, operands, weights);
      if (ms === undefined || ms >= bestMs) continue;
      best = candidate;
      bestMs = ms;
    }
    return definite(best, 'an algorithm');
  }

  #heuristics(description: Handle, layouts: Plan['layouts']) {
    const { calls } = this.#gpu.cublas;
    const preference = handleFrom((out) => {
      checkCublas(calls.cublasLtMatmulPreferenceCreate(out), 'a preference');
      return 0;
    });
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(gemmWorkspaceBytes), true);
    calls.cublasLtMatmulPreferenceSetAttribute(preference, preferenceWorkspaceBytes, bytes, 8);
    const results = new Uint8Array(this.#candidatesMax * heuristicResult.bytes);
    const returned = new Int32Array(1);
    const [a, b, c] = layouts;
    const handle = this.#gpu.cublasHandle;
    const query = [
      handle,
      description,
      a,
      b,
      c,
      c,
      preference,
      this.#candidatesMax,
      results,
      returned,
    ] as const;
    const status = calls.cublasLtMatmulAlgoGetHeuristic(...query);
    calls.cublasLtMatmulPreferenceDestroy(preference);
    if (status !== 0) return [];
    const view = new DataView(results.buffer);
    return Array.from({ length: returned[0] ?? 0 }, (_, index) => {
      const at = index * heuristicResult.bytes;
      const valid = view.getInt32(at + heuristicResult.stateAt, true) === 0;
      const workspaceBytes = Number(view.getBigUint64(at + heuristicResult.workspaceBytesAt, true));
      return { valid, algorithm: results.slice(at, at + heuristicResult.algorithmBytes), workspaceBytes };
    }).filter(({ valid }) => valid);
  }

  /** @returns milliseconds; undefined for an algorithm that was offered but does not run */
  #time(
    plan: Plan,
    shape: GemmShape,
    operands: GemmOperands,
    weights: readonly DevicePointer[],
  ): number | undefined {
    const { driver, stream } = this.#gpu;
    const start = handleFrom((out) => driver.cuEventCreate(out, 0));
    const end = handleFrom((out) => driver.cuEventCreate(out, 0));
    let graph: CapturedGraph | undefined;
    try {
      // Small products take less time than the host needs to launch them one by one.
      graph = new CapturedGraph(driver, stream, () => {
        for (let run = 0; run < timedRuns; run++)
          this.#run(plan, shape, operands, definite(weights[run % weights.length], 'a weight'));
      });
      graph.launch(stream);
      driver.cuEventRecord(start, stream);
      graph.launch(stream);
      driver.cuEventRecord(end, stream);
      driver.cuEventSynchronize(end);
      const ms = new Float32Array(1);
      driver.cuEventElapsedTime_v2(ms, start, end);
      return ms[0];
    } catch (thrown) {
      if (thrown instanceof DeviceError && thrown.message.includes('cuBLASLt')) return undefined;
      throw thrown;
    } finally {
      graph?.close();
      driver.cuEventDestroy_v2(start);
      driver.cuEventDestroy_v2(end);
    }
  }

  #run(plan: Plan, shape: GemmShape, operands: GemmOperands, weight: DevicePointer): void {
    const { cublas, cublasHandle, stream } = this.#gpu;
    const [a, b, c] = plan.layouts;
    assert(plan.workspaceBytes <= gemmWorkspaceBytes, 'an algorithm that fits the workspace');
    const status = cublas.calls.cublasLtMatmul(
      cublasHandle,
      plan.description,
      this.#one,
      weight,
      a,
      operands.x,
      b,
      shape.accumulates ? this.#one : this.#zero,
      operands.y,
      c,
      operands.y,
      c,
      plan.algorithm,
      this.#workspace,
      gemmWorkspaceBytes,
      stream,
    );
    checkCublas(status, `a product of ${shape.rows} × ${shape.inputs} by ${shape.outputs} × ${shape.inputs}`);
  }

  close(): void {
    const { calls } = this.#gpu.cublas;
    for (const layout of this.#handles.layouts) calls.cublasLtMatrixLayoutDestroy(layout);
    for (const description of this.#handles.descriptions) calls.cublasLtMatmulDescDestroy(description);
    this.#handles.layouts.length = 0;
    this.#handles.descriptions.length = 0;
  }
}
