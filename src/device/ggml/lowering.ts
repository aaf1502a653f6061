import { definite } from '../../base/errors.ts';
import type { BatchShape, Graph, GraphNode } from '../../graph/graph.ts';
import type { Op } from '../../graph/ops.ts';
import { DeviceError } from '../errors.ts';
import type { Ggml } from './ffi.ts';
import type { FusedGraph } from './fusion.ts';
import type { ComputeGraph, Context, Tensor } from './handles.ts';
import type { KvArena } from './kv-arena.ts';
import type { GgmlLibrary } from './library.ts';
import { lowerAttention } from './lower-attention.ts';
import { lowerElementwise } from './lower-elementwise.ts';
import { lowerLinear } from './lower-linear.ts';
import { lowerConcat, lowerReshape, lowerSlice } from './lower-shape.ts';
import type { ModelWeights } from './weights.ts';
import type { Workspace } from './workspace.ts';

export type NodeOf<O extends Op> = Extract<GraphNode, { op: O }>;

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

/** Everything that lowering one graph builds up. */
export class LoweringState {
  readonly ggml: Ggml;
  readonly parts: ModelParts;
  readonly context: Context;
  readonly target: ComputeGraph;
  readonly fused: FusedGraph;
  readonly shape: BatchShape;
  readonly segments: SegmentTensors[] = [];
  /** By node id. */
  readonly values: (Tensor | undefined)[] = [];
  /** Nodes that read each node, by id. */
  readonly consumers: readonly (readonly GraphNode[])[];
  /** Attention nodes whose result was written straight into an extended input. */
  readonly extendedInPlace = new Set<number>();
  readonly #indices = new Map<number, Tensor>();
  readonly #sums: Partial<Record<1 | 2, Tensor>> = {};

  constructor(
    parts: ModelParts,
    context: Context,
    target: ComputeGraph,
    fused: FusedGraph,
    shape: BatchShape,
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

/** How each op becomes ggml ops. An op without a row is one that this device lacks. */
const lowerings: { [O in Op]: (state: LoweringState, node: NodeOf<O>) => Tensor | undefined } = {
  input: (state, node) => {
    const { name } = node.attributes;
    const tensor = state.parts.workspace.input(state.context, name, node.shape[0] ?? 0);
    if (tensor) return tensor;
    throw new DeviceError('DEVICE_OP_UNSUPPORTED', `the ggml device has no batch input '${name}'`);
  },
  weight: (state, node) => lowerWeight(state, node),
  embedding: (state, node) =>
    state.ggml.ggml_get_rows(state.context, state.input(node, 0), state.input(node, 1)),
  linear: lowerLinear,
  rmsNorm: lowerElementwise,
  layerNorm: lowerElementwise,
  add: lowerElementwise,
  multiply: lowerElementwise,
  scale: lowerElementwise,
  silu: lowerElementwise,
  gelu: lowerElementwise,
  relu: lowerElementwise,
  tanh: lowerElementwise,
  sigmoid: lowerElementwise,
  swiglu: lowerElementwise,
  geglu: lowerElementwise,
  softmax: lowerElementwise,
  rope: lowerElementwise,
  attention: lowerAttention,
  reshape: lowerReshape,
  rows: (state, node) => lowerRows(state, node),
  slice: lowerSlice,
  concat: lowerConcat,
  // A ggml engine is one rank: the sum over a group of one.
  allReduce: (state, node) => state.input(node, 0),
  allGather: (state, node) => state.input(node, 0),
};

function lowerWeight(state: LoweringState, node: NodeOf<'weight'>): Tensor | undefined {
  const { name } = node.attributes;
  const uses = state.consumers[node.id] ?? [];
  if (uses.some((use) => use.op === 'embedding')) return state.parts.weights.table(name);
  // A linear looks its matrix up itself: it may be stored with extra columns.
  const asVector = uses.some((use) => use.op !== 'linear' || use.inputs[1] !== node.id);
  return asVector ? state.parts.weights.vector(name) : undefined;
}

function lowerRows(state: LoweringState, node: NodeOf<'rows'>): Tensor {
  const x = state.input(node, 0);
  const indices = state.node(node.inputs[1] ?? -1);
  // Output rows are distinct and ascending: as many as there are tokens means all of them.
  const all =
    indices.op === 'input' &&
    indices.attributes.name === 'outputRows' &&
    node.shape[0] === state.shape.tokens;
  return all ? x : state.ggml.ggml_get_rows(state.context, x, state.input(node, 1));
}

/** Lowers every node in order. @returns the named outputs */
export function lowerGraph(state: LoweringState): Map<string, Tensor> {
  for (const node of state.fused.graph.nodes) {
    // The table's rows take their own op's node; the compiler cannot see it through the union.
    const lower = lowerings[node.op] as (state: LoweringState, node: GraphNode) => Tensor | undefined;
    state.values[node.id] = lower(state, node);
  }
  const outputs = new Map<string, Tensor>();
  for (const [name, id] of Object.entries(state.fused.graph.outputs)) {
    const tensor = definite(state.values[id], `output ${name}`);
    state.ggml.ggml_set_output(tensor);
    state.expand(tensor);
    outputs.set(name, tensor);
  }
  return outputs;
}
