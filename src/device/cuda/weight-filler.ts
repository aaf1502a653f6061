import { closeSync, openSync, readSync } from 'node:fs';
import koffi from 'koffi';
import { f32ToBf16, f32ToF16 } from '../../base/half.ts';
import { readTensor } from '../../checkpoint/tensor-file.ts';
import type { WeightTensor } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { dequantize } from '../reference/dequantize.ts';
import { type DevicePointer, handleFrom } from './driver.ts';
import { quantizeModes, quantizeVariant } from './fp8.ts';
import type { Gpu } from './gpu.ts';
import { float, int, type KernelLaunch, LaunchArena, launch, pointer } from './launch.ts';
import { MemoryPool } from './memory-pool.ts';
import { type ActivationType, elementBytes } from './views.ts';

/** Where a weight of a random engine comes from: `random:SEED` instead of a file's path. */
export const randomPathPrefix = 'random:';

/** Bytes that travel from a file to the GPU at once, through pinned memory. */
const stagingBytes = 64 * 1024 * 1024;

/** ACTIVATION in `common.cuh`. */
export const activationCodes: Readonly<Record<ActivationType, number>> = { f32: 0, f16: 1, bf16: 2 };

const elements = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

/** Brings weights to the GPU, in the type that they are to have there. */
export class WeightFiller {
  readonly #gpu: Gpu;
  #staging = 0n;
  #scratch: { pool: MemoryPool; at: DevicePointer; bytes: number } | undefined;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Writes a tensor's elements, one after the other. */
  fill(tensor: WeightTensor, at: DevicePointer, type: ActivationType): void {
    if (tensor.path.startsWith(randomPathPrefix)) this.#fillRandom(tensor, at, type);
    else if (tensor.dtype === type) this.#copy(tensor, at);
    else this.#upload(encode(readFloats(tensor), type), at);
  }

  /** Writes a matrix as e4m3 with a float32 scale a row; `type` is what it passes through. */
  quantize(tensor: WeightTensor, at: DevicePointer, scales: DevicePointer, type: ActivationType): void {
    const [rows = 0, width = 0] = tensor.shape;
    const from = this.#scratchOf(rows * width * elementBytes(type));
    this.fill(tensor, from, type);
    const { vectors, threads } = quantizeVariant(rows, width);
    const defines = { ACTIVATION: activationCodes[type], MODE: quantizeModes.plain, VECTORS: vectors };
    const parameters = [
      pointer(from),
      pointer(0),
      pointer(at),
      pointer(scales),
      int(width),
      int(width),
      float(0),
    ];
    this.#run('quantize', defines, { grid: [rows, 1, 1], threads, parameters });
    // The next tensor overwrites what this one is read from.
    this.#gpu.synchronize();
  }

  /** Small enough that activations neither vanish nor grow: variance 1 / inputs for matrices, ones for norms. */
  #fillRandom({ name, path, shape }: WeightTensor, at: DevicePointer, type: ActivationType): void {
    const count = elements(shape);
    let seed = Number(path.slice(randomPathPrefix.length)) | 0;
    for (const letter of name) seed = Math.imul(seed ^ letter.charCodeAt(0), 0x01000193);
    const isVector = shape.length === 1;
    const scale = isVector ? 0.1 : Math.sqrt(3 / (shape[1] ?? 1));
    const parameters = [pointer(at), pointer(count), int(seed | 0), float(scale), float(isVector ? 1 : 0)];
    const grid = [Math.min(4096, Math.ceil(count / 256)), 1, 1] as const;
    this.#run('fill', { ACTIVATION: activationCodes[type] }, { grid, threads: 256, parameters });
  }

  #run(
    kernel: 'fill' | 'quantize',
    defines: Record<string, number>,
    launched: Pick<KernelLaunch, 'grid' | 'threads' | 'parameters'>,
  ): void {
    const { driver, modules, stream } = this.#gpu;
    const handle = modules.kernel(kernel, kernel, defines);
    const arena = new LaunchArena();
    launch(driver, arena.prepare({ ...launched, kernel: handle, sharedBytes: 0, overlaps: false }, stream));
    arena.close();
  }

  #copy(tensor: WeightTensor, at: DevicePointer): void {
    const { driver } = this.#gpu;
    const view = this.#stagingView();
    const file = openWeights(tensor.path);
    try {
      for (let done = 0; done < tensor.byteLength; ) {
        const bytes = Math.min(stagingBytes, tensor.byteLength - done);
        readFully(file, view.subarray(0, bytes), tensor.offset + done, tensor.path);
        driver.cuMemcpyHtoD_v2(at + done, this.#staging, bytes);
        done += bytes;
      }
    } finally {
      closeSync(file);
    }
  }

  #upload(bytes: Uint8Array, at: DevicePointer): void {
    if (bytes.byteLength > 0) this.#gpu.driver.cuMemcpyHtoD_v2(at, bytes, bytes.byteLength);
  }

  #stagingView(): Uint8Array {
    const { driver } = this.#gpu;
    if (this.#staging === 0n)
      this.#staging = handleFrom((out) => driver.cuMemHostAlloc(out, stagingBytes, 0));
    return new Uint8Array(koffi.view(this.#staging, stagingBytes));
  }

  #scratchOf(bytes: number): DevicePointer {
    if (this.#scratch && this.#scratch.bytes >= bytes) return this.#scratch.at;
    this.#scratch?.pool.close();
    const pool = new MemoryPool(this.#gpu.driver);
    this.#scratch = { pool, at: pool.take(bytes), bytes };
    return this.#scratch.at;
  }

  /** Waits for what was queued, and gives back what only loading needs. */
  close(): void {
    this.#gpu.synchronize();
    if (this.#staging !== 0n) this.#gpu.driver.cuMemFreeHost(this.#staging);
    this.#staging = 0n;
    this.#scratch?.pool.close();
    this.#scratch = undefined;
  }
}

function openWeights(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw new DeviceError('DEVICE_WEIGHT_MISSING', `cannot open ${path}`, { cause });
  }
}

function readFully(file: number, target: Uint8Array, position: number, path: string): void {
  for (let done = 0; done < target.length; ) {
    const bytes = readSync(file, target, done, target.length - done, position + done);
    if (bytes === 0)
      throw new DeviceError('DEVICE_WEIGHT_INVALID', `${path} ends early: download or build it again`);
    done += bytes;
  }
}

/** A tensor's values on the host. */
export function readFloats(tensor: WeightTensor): Float32Array {
  return dequantize(tensor.dtype, readTensor(tensor));
}

function encode(values: Float32Array, type: ActivationType): Uint8Array {
  if (type === 'f32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const words = Uint16Array.from(values, type === 'f16' ? f32ToF16 : f32ToBf16);
  return new Uint8Array(words.buffer);
}
