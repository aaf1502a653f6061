import { definite } from '../../base/errors.ts';
import type { BatchShape, Graph, GraphNode } from '../../graph/graph.ts';
import type { Op } from '../../graph/ops.ts';
import type { FusedGraph } from '../passes/fuse.ts';
import type { AdapterPool } from './adapter-pool.ts';
import type { AdapterRows, AdapterShape } from './adapter-rows.ts';
import type { Ggml } from './ffi.ts';
import type { ComputeGraph, Context, Tensor } from './handles.ts';
import type { KvArena } from './kv-arena.ts';
import type { GgmlLibrary } from './library.ts';
import type { ModelWeights } from './weights.ts';
import type { Workspace } from './workspace.ts';

export type NodeOf<O extends Op> = Extract<GraphNode, { op: O }>;

/** What an executable is laid out for: ggml attends segment by segment, so the mix of rows is part of it. */
export interface ExecutableShape extends BatchShape {
  /** Query rows of each segment, in row order; they sum up to `tokens`. */
  segmentRows: readonly number[];
  /** Absent where no row has an adapter. */
  adapters?: AdapterShape | undefined;
}

/** The LoRA adapters on the device, and which rows use them. */
export interface AdapterParts {
  pool: AdapterPool;
  rows: AdapterRows;
}

/** Matrices of neighbouring places, pointed at the first of them before each run: the step's first, or that of a segment's adapter. */
export interface AdapterTensor {
  tensor: Tensor;
  /** Of place 0. */
  address: number;
  placeBytes: number;
  segment: number | undefined;
}

/** What a model's executables share. */
export interface ModelParts {
  library: GgmlLibrary;
  weights: ModelWeights;
  workspace: Workspace;
  kv: KvArena;
  /** Distinct windows of the model's layers; `undefined` for attention to everything. */
  windows: readonly (number | undefined)[];
  kvTypeId: number;
  vocabularySize: number;
  /** Absent where no adapters are served. */
  adapters?: AdapterParts | undefined;
}

/** One segment's attention tensors of one layer: pointed at the segment's slot before every run. */
export interface KvViews {
  layer: number;
  keys: Tensor;
  values: Tensor;
}

/** One segment's tensors that move between runs. */
export interface SegmentTensors {
  rows: number;
  firstRow: number;
  views: KvViews[];
  /** By window class; segments of one row need none. */
  masks: (Tensor | undefined)[];
}

/** Where a graph waits for the other ranks: after so many of its nodes. */
export interface Exchange {
  nodes: number;
  /** This rank's values, [.., width] without gaps. */
  own: Tensor;
  elements: number;
  /** Of a gather: each rank's columns, and where the joined rows go. Absent: `own` becomes the sum. */
  gather?: { widths: readonly number[]; joined: Tensor; joinedElements: number };
}

/** Everything that lowering one graph builds up. */
export class LoweringState {
  readonly ggml: Ggml;
  readonly parts: ModelParts;
  readonly context: Context;
  readonly target: ComputeGraph;
  readonly fused: FusedGraph;
  readonly shape: ExecutableShape;
  readonly segments: SegmentTensors[] = [];
  /** By node id. */
  readonly values: (Tensor | undefined)[] = [];
  /** Nodes that read each node, by id. */
  readonly consumers: readonly (readonly GraphNode[])[];
  /** Attention nodes whose result was written straight into an extended input. */
  readonly extendedInPlace = new Set<number>();
  /** In order: the graph is computed in pieces between them. */
  readonly exchanges: Exchange[] = [];
  readonly adapterTensors: AdapterTensor[] = [];
  readonly #indices = new Map<number, Tensor>();
  readonly #sums: Partial<Record<1 | 2, Tensor>> = {};

  constructor(
    parts: ModelParts,
    context: Context,
    target: ComputeGraph,
    fused: FusedGraph,
    shape: ExecutableShape,
  ) {
    this.ggml = parts.library.ggml;
    this.parts = parts;
    this.context = context;
    this.target = target;
    this.fused = fused;
    this.shape = shape;
    this.consumers = listConsumers(fused.graph);
    let firstRow = 0;
    for (const rows of shape.segmentRows) {
      this.segments.push({ rows, firstRow, views: [], masks: [] });
      firstRow += rows;
    }
  }

  node(id: number): GraphNode {
    return definite(this.fused.graph.nodes[id], 'a graph node');
  }

  /** The lowered value of a node's input. */
  input(node: GraphNode, index: number): Tensor {
    return definite(this.values[node.inputs[index] ?? -1], `input ${index} of ${node.op}`);
  }

  optionalInput(node: GraphNode, index: number): Tensor | null {
    return node.inputs.length > index ? this.input(node, index) : null;
  }

  /** Puts a tensor and all it needs next into the order of execution. */
  expand(tensor: Tensor): Tensor {
    this.ggml.ggml_build_forward_expand(this.target, tensor);
    return tensor;
  }

  /** Row indices are shared by all layers of a class. */
  rowIndices(rowClass: number, kvHeads: number): Tensor {
    const known = this.#indices.get(rowClass);
    if (known) return known;
    const tensor = this.parts.workspace.indices(this.context, rowClass, kvHeads, this.shape.tokens);
    this.#indices.set(rowClass, tensor);
    return tensor;
  }

  blockSums(groupBlocks: 1 | 2): Tensor {
    const tensor = this.#sums[groupBlocks] ?? this.parts.workspace.sums(this.context, groupBlocks);
    this.#sums[groupBlocks] = tensor;
    return tensor;
  }
}

function listConsumers(graph: Graph): GraphNode[][] {
  const consumers: GraphNode[][] = graph.nodes.map(() => []);
  for (const node of graph.nodes) for (const input of new Set(node.inputs)) consumers[input]?.push(node);
  return consumers;
}
