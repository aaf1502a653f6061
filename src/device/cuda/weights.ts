import { definite } from '../../base/errors.ts';
import type { Graph } from '../../graph/graph.ts';
import type { WeightTensor } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { DevicePointer } from './driver.ts';
import { fitsFp8 } from './fp8.ts';
import type { Gpu } from './gpu.ts';
import type { MemoryPool } from './memory-pool.ts';
import { type ActivationType, type ElementType, elementBytes } from './views.ts';
import { readFloats, WeightFiller } from './weight-filler.ts';

/**
 * How a graph uses a weight: tables and the matrices of products are stored as activations are (the latter perhaps as e4m3), vectors as
 * float32, biases of linears as activations.
 */
export type WeightUse = 'table' | 'matrix' | 'vector' | 'bias';

/** What each weight of a graph is used as, in the order of its first use, and its shape there. */
export function weightUses(graph: Graph): Map<string, { use: WeightUse; shape: readonly number[] }> {
  const uses = new Map<string, { use: WeightUse; shape: readonly number[] }>();
  for (const node of graph.nodes) {
    node.inputs.forEach((id, index) => {
      const weight = graph.nodes[id];
      if (weight?.op !== 'weight') return;
      const isLinear = node.op === 'linear';
      const { name } = weight.attributes;
      let use: WeightUse = isLinear && index === 2 ? 'bias' : 'vector';
      // A table that is also the output matrix (tied embeddings) stays a table.
      if (weight.shape.length > 1) use = isLinear && uses.get(name)?.use !== 'table' ? 'matrix' : 'table';
      uses.set(name, { use, shape: weight.shape });
    });
  }
  return uses;
}

/** The weights of a model on the GPU, by name; stacked ones lie one after the other, so that any run of them is one matrix. */
export class GpuWeights {
  readonly #gpu: Gpu;
  readonly #pool: MemoryPool;
  readonly #type: ActivationType;
  readonly #isFp8: boolean;
  readonly #tensors: ReadonlyMap<string, WeightTensor>;
  readonly #placed = new Map<string, { at: DevicePointer; type: ElementType; scales: DevicePointer }>();
  #bytes = 0;

  /** @param isFp8 whether the matrices of products are e4m3, where their shapes allow it */
  constructor(
    gpu: Gpu,
    pool: MemoryPool,
    type: ActivationType,
    isFp8: boolean,
    tensors: ReadonlyMap<string, WeightTensor>,
  ) {
    this.#gpu = gpu;
    this.#pool = pool;
    this.#type = type;
    this.#isFp8 = isFp8;
    this.#tensors = tensors;
  }

  /** Bytes of all weights, as the GPU holds them. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The address of a weight that {@link load} placed. */
  address(name: string): DevicePointer {
    return this.#find(name).at;
  }

  /** How a weight's elements are stored. */
  typeOf(name: string): ElementType {
    return this.#find(name).type;
  }

  /** Where the scales of an e4m3 weight's rows lie. */
  scales(name: string): DevicePointer {
    return this.#find(name).scales;
  }

  #find(name: string) {
    return definite(this.#placed.get(name), `weight '${name}' on the GPU`);
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
    const filler = new WeightFiller(this.#gpu);
    try {
      for (const [name, { use, shape }] of weightUses(graph)) {
        if (this.#placed.has(name)) continue;
        const parts = (stacked.get(name) ?? [name]).map((part) => this.#tensor(part));
        if (use === 'matrix' && this.#isFp8 && fitsFp8(shape)) this.#placeFp8(filler, name, parts);
        else this.#place(filler, name, parts, use === 'vector' ? 'f32' : this.#type);
      }
    } finally {
      filler.close();
    }
  }

  #place(filler: WeightFiller, name: string, parts: readonly WeightTensor[], type: ActivationType): void {
    const sizes = parts.map(({ shape }) =>
      shape.reduce((product, size) => product * size, elementBytes(type)),
    );
    let at = this.#take(sizes);
    this.#placed.set(name, { at, type, scales: 0 });
    parts.forEach((part, index) => {
      filler.fill(part, at, type);
      at += sizes[index] ?? 0;
    });
  }

  #placeFp8(filler: WeightFiller, name: string, parts: readonly WeightTensor[]): void {
    let at = this.#take(parts.map(({ shape }) => (shape[0] ?? 0) * (shape[1] ?? 0)));
    let scales = this.#take(parts.map(({ shape }) => (shape[0] ?? 0) * elementBytes('f32')));
    this.#placed.set(name, { at, type: 'e4m3', scales });
    for (const part of parts) {
      filler.quantize(part, at, scales, this.#type);
      const [rows = 0, width = 0] = part.shape;
      at += rows * width;
      scales += rows * elementBytes('f32');
    }
  }

  #take(sizes: readonly number[]): DevicePointer {
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    this.#bytes += bytes;
    return this.#pool.take(bytes);
  }
}
