import { assert, definite } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import { elementCount } from '../../graph/rules.ts';
import { DeviceError } from '../errors.ts';
import type { FusedGraph } from '../passes/fuse.ts';
import type { AdapterPool } from './adapter-pool.ts';
import type { DevicePointer } from './driver.ts';
import type { Gemms } from './gemm.ts';
import type { Gpu } from './gpu.ts';
import { type Argument, type KernelLaunch, type LaunchArena, launch, pointer } from './launch.ts';
import type { Defines } from './module-cache.ts';
import type { NcclGroup } from './nccl.ts';
import {
  type ActivationType,
  addressOf,
  type ElementType,
  elementBytes,
  fixedView,
  type Region,
  type View,
} from './views.ts';
import { activationCodes } from './weight-filler.ts';
import type { GpuWeights } from './weights.ts';

/** What all programs of a model share. */
export interface ModelParts {
  readonly gpu: Gpu;
  readonly gemms: Gemms;
  readonly weights: GpuWeights;
  readonly activation: ActivationType;
  /** What the KV cache holds: activations, or e4m3. */
  readonly kvType: ElementType;
  readonly launches: LaunchArena;
  /** The other GPUs of a tensor-parallel group. */
  readonly group?: NcclGroup;
  /** Where a layer's part of the KV cache starts. */
  readonly kvLayer: (layer: number) => DevicePointer;
  /** Positions of a KV block. */
  readonly blockPositions: number;
  /** Where the model has room for LoRA adapters. */
  readonly adapters?: AdapterPool;
  /** Rope tables and other small constants, by key. */
  readonly constants: Constants;
}

/** Small arrays of float32 that kernels read, uploaded once. */
export interface Constants {
  floats(key: string, make: () => Float32Array): DevicePointer;
}

/** Where a step's inputs lie on the GPU; fixed for a program. */
export interface StepAddresses {
  readonly tokens: DevicePointer;
  readonly positions: DevicePointer;
  readonly outputRows: DevicePointer;
  /** Where not all output rows get logits: which do, by output row and by batch row. */
  readonly logitRows: DevicePointer;
  readonly logitBatchRows: DevicePointer;
  readonly kvPlaces: DevicePointer;
  readonly tables: DevicePointer;
  readonly decodeItems: DevicePointer;
  readonly prefillItems: DevicePointer;
  readonly prefillCount: DevicePointer;
  readonly blocks: DevicePointer;
  /** The adapter slot of each row, in programs of steps that have some. */
  readonly adapters: DevicePointer;
  /** Tokens that the step before sampled. */
  readonly sampled: DevicePointer;
  /** Sampling parameters of the output rows. */
  readonly sampling: DevicePointer;
  /** Counters of split attention, zero between launches. */
  readonly arrivals: DevicePointer;
}

/** The shape that a program is made for. */
export interface Bucket {
  readonly rows: number;
  readonly outputRows: number;
  /** Output rows that get logits: all of them, unless {@link hasHidden}. */
  readonly logitRows: number;
  /** Whether some row wants its final hidden state. */
  readonly hasHidden: boolean;
  /** Sequences that extend by one row; 0 where none does. */
  readonly decodeItems: number;
  /** Pieces of up to 128 rows of longer extensions; 0 where there are none. */
  readonly prefillItems: number;
  /** Whether some row has a LoRA adapter: products are then done one by one, without what else joins them. */
  readonly hasAdapters: boolean;
}

/** One operation of a program: what it touches, and how it is queued once addresses are known. */
export interface Operation {
  readonly name: string;
  readonly touches: readonly View[];
  prepare(address: (view: View) => DevicePointer): () => void;
}

const rotationMax = 8;

/** Rows as e4m3 [rows, width], and their scales [rows]. */
export interface QuantizedRows {
  readonly values: View;
  readonly scales: View;
}

/** A result of an 8-bit product that is still to be multiplied by the scales of its rows and columns. */
export interface Unscaled {
  readonly rows: View;
  readonly columns: View;
}

/** A product in pieces that are still to be added onto the residual stream. */
export interface PendingSum {
  readonly residual: View;
  /** [pieces · rows, width]. */
  readonly parts: View;
  readonly scales?: Unscaled;
}

type Reads = readonly { node: GraphNode; index: number }[];

/** A graph on its way to kernels: views of its values, and the operations so far. */
export class LoweringState {
  readonly parts: ModelParts;
  readonly fused: FusedGraph;
  readonly bucket: Bucket;
  readonly step: StepAddresses;
  readonly operations: Operation[] = [];
  readonly regions: Region[] = [];
  /** RMSNorms that their readers do on the way in, by node. */
  readonly deferredNorms = new Map<number, { x: View; weight: View; epsilon: number }>();
  /** Values as e4m3, by node: some exist only so. */
  readonly quantized = new Map<number, QuantizedRows>();
  /** By product: its result lacks its scales. */
  readonly unscaled = new Map<number, Unscaled>();
  /** By add, until the norm behind it does it. */
  readonly pendingSums = new Map<number, PendingSum>();
  /** Attentions whose q has turned, and whose k and v are in the cache, before they are lowered. */
  readonly filledAttentions = new Set<number>();
  readonly #views = new Map<number, View>();
  readonly #readers: readonly Reads[];
  readonly #done = new Set<number>();

  constructor(parts: ModelParts, fused: FusedGraph, bucket: Bucket, step: StepAddresses) {
    this.parts = parts;
    this.fused = fused;
    this.bucket = bucket;
    this.step = step;
    const readers: { node: GraphNode; index: number }[][] = fused.graph.nodes.map(() => []);
    for (const node of fused.graph.nodes) {
      node.inputs.forEach((id, index) => {
        readers[id]?.push({ node, index });
      });
    }
    this.#readers = readers;
  }

  node(id: number | undefined): GraphNode {
    return definite(this.fused.graph.nodes[id ?? -1], 'a node');
  }

  input(node: GraphNode, index: number): GraphNode {
    return this.node(node.inputs[index]);
  }

  readersOf(node: GraphNode): Reads {
    return definite(this.#readers[node.id], 'readers');
  }

  isOutput(node: GraphNode): boolean {
    return Object.values(this.fused.graph.outputs).includes(node.id);
  }

  /** The only reader of a value that is no output; undefined where there are more. */
  onlyReader(node: GraphNode): GraphNode | undefined {
    const readers = this.readersOf(node);
    return readers.length === 1 && !this.isOutput(node) ? readers[0]?.node : undefined;
  }

  /** Where a value lies. */
  view(node: GraphNode): View {
    return definite(this.#views.get(node.id), `a view of node ${node.id} (${node.op})`);
  }

  viewOf(node: GraphNode, index: number): View {
    return this.view(this.input(node, index));
  }

  hasView(node: GraphNode): boolean {
    return this.#views.has(node.id);
  }

  setView(node: GraphNode, view: View): void {
    this.#views.set(node.id, view);
  }

  /** Marks a node as computed by an operation of another. */
  markDone(node: GraphNode): void {
    this.#done.add(node.id);
  }

  isDone(node: GraphNode): boolean {
    return this.#done.has(node.id);
  }

  /** Fresh memory of rows of activations (or float32). */
  fresh(rows: number, width: number, type: ElementType = this.parts.activation): View {
    const region: Region = { bytes: rows * width * elementBytes(type), firstUse: -1, lastUse: -1 };
    this.regions.push(region);
    return { region, offset: 0, rows, width, stride: width, type };
  }

  /** Fresh memory for a node's result. */
  result(node: GraphNode): View {
    const [rows = 0] = node.shape;
    const view = this.fresh(rows, elementCount(node.shape) / Math.max(1, rows));
    this.setView(node, view);
    return view;
  }

  push(operation: Operation): void {
    const at = this.operations.length;
    for (const { region } of operation.touches) {
      if (region.firstUse < 0) region.firstUse = at;
      region.lastUse = Math.max(region.lastUse, at);
    }
    this.operations.push(operation);
  }

  /** Where the scales of an e4m3 weight's rows lie. */
  scalesView(node: GraphNode): View {
    assert(node.op === 'weight', 'a weight');
    return fixedView(this.parts.weights.scales(node.attributes.name), 1, node.shape[0] ?? 1, 'f32');
  }

  /** A kernel over views; its arguments are made once addresses are known. */
  pushKernel(kernel: KernelRequest): void {
    const { gpu, launches, activation } = this.parts;
    const defines = { ACTIVATION: activationCodes[activation], ...kernel.defines };
    this.push({
      name: kernel.label ?? kernel.name,
      touches: kernel.touches,
      prepare: (address) => {
        const handle = gpu.modules.kernel(kernel.file, kernel.name, defines, kernel.sharedBytes ?? 0);
        const prepared = launches.prepare(
          {
            kernel: handle,
            grid: kernel.grid,
            threads: kernel.threads,
            sharedBytes: kernel.sharedBytes ?? 0,
            parameters: kernel.parameters((view) => pointer(view ? address(view) : 0)),
            overlaps: gpu.facts.capability >= 90,
          },
          gpu.stream,
        );
        return () => launch(gpu.driver, prepared);
      },
    });
  }

  /** Weights of other products of the same shape, so that timing one does not measure the cache. */
  rotationOf({ rows, width }: View): DevicePointer[] {
    const { nodes } = this.fused.graph;
    const weights = nodes.flatMap((node) => {
      const weight = node.op === 'linear' ? this.input(node, 1) : undefined;
      const fits = weight?.op === 'weight' && weight.shape[0] === rows && weight.shape[1] === width;
      return fits ? [this.parts.weights.address(weight.attributes.name)] : [];
    });
    return weights.slice(0, rotationMax);
  }

  /** How a weight is stored. */
  weightType(node: GraphNode): ElementType {
    assert(node.op === 'weight', 'a weight');
    return this.parts.weights.typeOf(node.attributes.name);
  }

  /** The address of a vector or matrix weight, as a view. */
  weightView(node: GraphNode): View {
    assert(node.op === 'weight', 'a weight');
    const [rows = 1, width = 1] = node.shape.length > 1 ? node.shape : [1, node.shape[0] ?? 1];
    const type = node.shape.length > 1 ? this.weightType(node) : 'f32';
    return fixedView(this.parts.weights.address(node.attributes.name), rows, width, type);
  }
}

/** A kernel launch in terms of views. */
export interface KernelRequest {
  readonly file: string;
  readonly name: string;
  /** For profiles, where the kernel's name says too little. */
  readonly label?: string;
  readonly defines?: Defines;
  readonly grid: KernelLaunch['grid'];
  readonly threads: number;
  readonly sharedBytes?: number;
  readonly touches: readonly View[];
  /** The members of the kernel's `Parameters`; `at` gives a view's address, or null for none. */
  parameters(at: (view: View | undefined) => { readonly pointer: number }): Argument[];
}

/** Lowers one node. */
export type Lower = (state: LoweringState, node: GraphNode) => void;

/** @throws DeviceError DEVICE_OP_UNSUPPORTED */
export function unsupported(what: string): never {
  throw new DeviceError('DEVICE_OP_UNSUPPORTED', `the cuda device lacks ${what}: use --device ggml`);
}

/** Blocks of 256 threads over so many units of work, within a grid that fills the GPU a few times. */
export function gridOver(units: number): KernelLaunch['grid'] {
  return [Math.max(1, Math.min(8192, Math.ceil(units / 256))), 1, 1];
}

/** Resolves views against an arena. */
export const resolver = (arena: DevicePointer) => (view: View) => addressOf(view, arena);
