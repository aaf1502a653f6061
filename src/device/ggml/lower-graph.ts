import { definite } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import type { Op } from '../../graph/ops.ts';
import { DeviceError } from '../errors.ts';
import type { Tensor } from './handles.ts';
import { lowerAttention } from './lower-attention.ts';
import { lowerAllGather, lowerAllReduce } from './lower-collective.ts';
import { lowerElementwise } from './lower-elementwise.ts';
import { lowerLinear } from './lower-linear.ts';
import { lowerConcat, lowerReshape, lowerSlice } from './lower-shape.ts';
import type { LoweringState, NodeOf } from './lowering-state.ts';

/** How each op becomes ggml ops. An op without a row is one that this device lacks. */
const lowerings: { [O in Op]: (state: LoweringState, node: NodeOf<O>) => Tensor | undefined } = {
  input: (state, node) => {
    const { name } = node.attributes;
    const [rows = 0] = node.shape;
    const { workspace } = state.parts;
    const tensor =
      name === 'hidden'
        ? workspace.hiddenInput(state.context, rows)
        : workspace.input(state.context, name, rows);
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
  allReduce: lowerAllReduce,
  allGather: lowerAllGather,
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
