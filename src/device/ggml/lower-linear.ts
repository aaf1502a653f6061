import { definite } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import { sumsPerGroup } from './extension.ts';
import type { Tensor } from './handles.ts';
import { lowerAdapters } from './lower-adapters.ts';
import { contiguous } from './lower-shape.ts';
import type { LoweringState, NodeOf } from './lowering-state.ts';
import { dimensionsOf, setMember, stridesOf, tensorOffsets } from './tensor-struct.ts';
import type { ExtendedInput } from './workspace.ts';

const blockElements = 32;
const elementBytes = 4;

/** Ops whose kernel writes rows wherever it is told: their result can lie in an extended input at once. */
const writesRowsAnywhere = new Set<GraphNode['op']>(['rmsNorm', 'swiglu', 'geglu']);

/** One product, whatever layout the weight is kept in, and its bias. */
export function lowerLinear(state: LoweringState, node: NodeOf<'linear'>): Tensor {
  const { ggml, context } = state;
  const weight = state.node(node.inputs[1] ?? -1);
  const name = weight.op === 'weight' ? weight.attributes.name : '';
  const matrix = state.parts.weights.matrix(name);
  const x = matrix.extraColumns > 0 ? extendedInput(state, node) : plainInput(state, node);
  const [rows = 0, width = 0] = node.shape;
  const separate = rows > 1 && rows <= matrix.vectorRowsMax;
  const product = state.expand(
    ggml.ggml_mul_mat(context, matrix.tensor, separate ? separateRows(state, x) : x),
  );
  const bias = state.optionalInput(node, 2);
  const joined = separate ? ggml.ggml_reshape_4d(context, product, width, rows, 1, 1) : product;
  const result = bias ? state.expand(ggml.ggml_add(context, joined, bias)) : joined;
  lowerAdapters(state, node, result);
  return result;
}

/** The input without gaps, which some repacked kernels (AMX) insist on: only views can have any. */
function plainInput(state: LoweringState, node: NodeOf<'linear'>): Tensor {
  const { op } = state.node(node.inputs[0] ?? -1);
  const x = state.input(node, 0);
  return op === 'slice' || op === 'reshape' ? contiguous(state, x) : x;
}

/** [rows, width] as [rows, 1, width]: ggml then multiplies row by row, with its vector kernel. */
function separateRows(state: LoweringState, x: Tensor): Tensor {
  const [width, rows] = dimensionsOf(x);
  const stride = stridesOf(x)[1];
  return state.ggml.ggml_view_4d(state.context, x, width, 1, rows, 1, stride, stride, stride * rows, 0);
}

/** The linear's input with its block sums behind it: [tokens, width + extra]. */
function extendedInput(state: LoweringState, node: NodeOf<'linear'>): Tensor {
  const { ggml, context, parts } = state;
  const source = state.node(node.inputs[0] ?? -1);
  const [rows = 0, width = 0] = source.shape;
  const target = definite(parts.workspace.extendedInput(width), `extended input of ${width} columns`);
  const x = state.input(node, 0);
  const inputs = state.extendedInPlace.has(source.id) ? x : moveInto(state, source, x, target);
  const groupBlocks = sumsPerGroup(width);
  const groupElements = blockElements * groupBlocks;
  const blocked = ggml.ggml_view_4d(
    context,
    inputs,
    groupElements,
    width / groupElements,
    rows,
    1,
    groupElements * elementBytes,
    target.rowBytes,
    target.rowBytes * rows,
    0,
  );
  const sums = ggml.ggml_mul_mat(context, state.blockSums(groupBlocks), blocked);
  placeRows(state, sums, target.address + width * elementBytes, [
    2 * groupBlocks * elementBytes,
    target.rowBytes,
    target.rowBytes * rows,
  ]);
  state.expand(sums);
  return parts.workspace.place(ggml.ggml_new_tensor_2d(context, 0, target.columns, rows), target.address);
}

/** Lets the input be computed where it is needed, or copies it there. */
function moveInto(state: LoweringState, source: GraphNode, x: Tensor, target: ExtendedInput): Tensor {
  const [rows = 0, width = 0] = source.shape;
  const strides: [number, number, number] = [target.rowBytes, target.rowBytes * rows, target.rowBytes * rows];
  const only =
    (state.consumers[source.id] ?? []).length === 1 &&
    !Object.values(state.fused.graph.outputs).includes(source.id);
  if (only && writesRowsAnywhere.has(source.op)) {
    placeRows(state, x, target.address, strides);
    return x;
  }
  return copyRows(state, x, target, 0, rows, width);
}

/** Copies a [rows, width] tensor into rows of an extended input. */
export function copyRows(
  state: LoweringState,
  x: Tensor,
  target: ExtendedInput,
  firstRow: number,
  rows: number,
  width: number,
): Tensor {
  const { ggml, context, parts } = state;
  const room = ggml.ggml_new_tensor_2d(context, 0, width, rows);
  const bytes = target.rowBytes * rows;
  setMember(room, tensorOffsets.nb + 8, target.rowBytes);
  setMember(room, tensorOffsets.nb + 16, bytes);
  setMember(room, tensorOffsets.nb + 24, bytes);
  parts.workspace.place(room, target.address + firstRow * target.rowBytes);
  return state.expand(ggml.ggml_cpy(context, x, room));
}

/** Fixes where a new op's result lies: kernels write through its strides, and the allocator leaves it alone. */
export function placeRows(
  state: LoweringState,
  tensor: Tensor,
  address: number,
  strides: readonly [number, number, number],
): void {
  strides.forEach((bytes, index) => {
    setMember(tensor, tensorOffsets.nb + 8 * (index + 1), bytes);
  });
  state.parts.workspace.place(tensor, address);
}
