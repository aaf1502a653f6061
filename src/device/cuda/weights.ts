import { closeSync, openSync, readSync } from 'node:fs';
import koffi from 'koffi';
import { definite } from '../../base/errors.ts';
import { f32ToBf16, f32ToF16 } from '../../base/half.ts';
import { readTensor } from '../../checkpoint/tensor-file.ts';
import type { Graph } from '../../graph/graph.ts';
import type { WeightTensor } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { dequantize } from '../reference/dequantize.ts';
import type { DevicePointer } from './driver.ts';
import { handleFrom } from './driver.ts';
import type { Gpu } from './gpu.ts';
import { float, int, LaunchArena, launch, pointer } from './launch.ts';
import type { MemoryPool } from './memory-pool.ts';
import { type ElementType, elementBytes } from './views.ts';

/** Where a weight of a random engine comes from: `random:SEED` instead of a file's path. */
export const randomPathPrefix = 'random:';

/** Bytes that travel from a file to the GPU at once, through pinned memory. */
const stagingBytes = 64 * 1024 * 1024;

/** ACTIVATION in `common.cuh`. */
export const activationCodes: Readonly<Record<ElementType, number>> = { f32: 0, f16: 1, bf16: 2 };

/** How a graph uses a weight: matrices are stored as activations are, vectors as float32, and biases of linears both ways. */
export type WeightUse = 'matrix' | 'vector' | 'bias';

/** What each weight of a graph is used as, in the order of its first use. */
export function weightUses(graph: Graph): Map<string, WeightUse> {
  const uses = new Map<string, WeightUse>();
  for (const node of graph.nodes) {
    node.inputs.forEach((id, index) => {
      const weight = graph.nodes[id];
      if (weight?.op !== 'weight') return;
      const rank = weight.shape.length;
      const use = rank > 1 ? 'matrix' : node.op === 'linear' && index === 2 ? 'bias' : 'vector';
      uses.set(weight.attributes.name, use);
    });
  }
  return uses;
}

/** The weights of a model on the GPU, by name; stacked ones lie one after the other, so that any run of them is one matrix. */
export class GpuWeights {
  readonly #gpu: Gpu;
  readonly #pool: MemoryPool;
  readonly #type: ElementType;
  readonly #tensors: ReadonlyMap<string, WeightTensor>;
  readonly #addresses = new Map<string, DevicePointer>();
  #staging = 0n;
  #bytes = 0;

  constructor(gpu: Gpu, pool: MemoryPool, type: ElementType, tensors: ReadonlyMap<string, WeightTensor>) {
    this.#gpu = gpu;
    this.#pool = pool;
    this.#type = type;
    this.#tensors = tensors;
  }

  /** Bytes of all weights, as the GPU holds them. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The address of a weight that {@link load} placed. */
  address(name: string): DevicePointer {
    return definite(this.#addresses.get(name), `weight '${name}' on the GPU`);
  }

  /** A weight's values on the host, as float32: for the few that kernels want prepared (rope's factors). */
  hostValues(name: string): Float32Array {
    return readFloats(this.#tensor(name));
  }

  #tensor(name: string): WeightTensor {
    const tensor = this.#tensors.get(name);
    if (tensor) return tensor;
    throw new DeviceError('DEVICE_WEIGHT_MISSING', `the engine has no tensor '${name}': build it again`);
  }

  /**
   * Places and fills every weight that a graph uses.
   * @param stacked names of stacked weights, by their parts
   */
  load(graph: Graph, stacked: ReadonlyMap<string, readonly string[]>): void {
    try {
      for (const [name, use] of weightUses(graph)) {
        if (this.#addresses.has(name)) continue;
        const type = use === 'vector' ? 'f32' : this.#type;
        this.#place(name, stacked.get(name) ?? [name], type);
      }
    } finally {
      this.#gpu.synchronize();
      if (this.#staging !== 0n) this.#gpu.driver.cuMemFreeHost(this.#staging);
      this.#staging = 0n;
    }
  }

  #place(name: string, parts: readonly string[], type: ElementType): void {
    const tensors = parts.map((part) => this.#tensor(part));
    const counts = tensors.map(({ shape }) => shape.reduce((product, size) => product * size, 1));
    const bytes = counts.reduce((sum, count) => sum + count, 0) * elementBytes(type);
    const address = this.#pool.take(bytes);
    this.#addresses.set(name, address);
    this.#bytes += bytes;
    let at = address;
    tensors.forEach((tensor, index) => {
      const count = counts[index] ?? 0;
      this.#fill(tensor, count, at, type);
      at += count * elementBytes(type);
    });
  }

  #fill(tensor: WeightTensor, count: number, at: DevicePointer, type: ElementType): void {
    if (tensor.path.startsWith(randomPathPrefix)) this.#fillRandom(tensor, count, at, type);
    else if (tensor.dtype === type) this.#copy(tensor, at);
    else this.#upload(encode(readFloats(tensor), type), at);
  }

  /** Small enough that activations neither vanish nor grow: variance 1 / inputs for matrices, ones for norms. */
  #fillRandom(
    { name, path, shape }: WeightTensor,
    count: number,
    at: DevicePointer,
    type: ElementType,
  ): void {
    const { driver, modules, stream } = this.#gpu;
    let seed = Number(path.slice(randomPathPrefix.length)) | 0;
    for (const letter of name) seed = Math.imul(seed ^ letter.charCodeAt(0), 0x01000193);
    const isVector = shape.length === 1;
    const scale = isVector ? 0.1 : Math.sqrt(3 / (shape[1] ?? 1));
    const kernel = modules.kernel('fill', 'fill', { ACTIVATION: activationCodes[type] });
    const parameters = [pointer(at), pointer(count), int(seed | 0), float(scale), float(isVector ? 1 : 0)];
    const arena = new LaunchArena();
    const grid = [Math.min(4096, Math.ceil(count / 256)), 1, 1] as const;
    launch(
      driver,
      arena.prepare({ kernel, grid, threads: 256, sharedBytes: 0, parameters, overlaps: false }, stream),
    );
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

function readFloats(tensor: WeightTensor): Float32Array {
  return dequantize(tensor.dtype, readTensor(tensor));
}

function encode(values: Float32Array, type: ElementType): Uint8Array {
  if (type === 'f32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const words = Uint16Array.from(values, type === 'f16' ? f32ToF16 : f32ToBf16);
  return new Uint8Array(words.buffer);
}
