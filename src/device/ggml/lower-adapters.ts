import { definite } from '../../base/errors.ts';
import type { AdapterMatrices } from './adapter-pool.ts';
import type { Tensor } from './handles.ts';
import type { LoweringState, NodeOf } from './lowering-state.ts';
import { setMember, stridesOf, tensorOffsets } from './tensor-struct.ts';

const elementBytes = 4;
const float32Type = 0;

/** A linear whose product is about to change, and what it read. */
interface Product {
  /** [rows, inputs]. */
  x: Tensor;
  /** [rows, width], changed in place. */
  y: Tensor;
  rows: number;
  inputs: number;
  width: number;
}

/** One logical linear's columns of a product. */
interface ProductPart {
  matrices: AdapterMatrices;
  column: number;
  outputs: number;
}

/**
 * Adds to a product what the rows' adapters change of it. Rows of few-row segments are gathered by adapter and multiplied in one batched product
 * for A and one for B, whatever adapters they have; a long segment is multiplied by its own adapter's matrices. Which places the matrices
 * lie in is written into the tensors before each run.
 */
export function lowerAdapters(state: LoweringState, node: NodeOf<'linear'>, product: Tensor): void {
  const { adapters: shape } = state.shape;
  const { adapters } = state.parts;
  if (!shape || !adapters) return;
  const parts: ProductPart[] = [];
  let column = 0;
  for (const { name, rows: outputs } of node.attributes.parts) {
    const matrices = adapters.pool.matrices(name);
    if (matrices) parts.push({ matrices, column, outputs });
    column += outputs;
  }
  if (parts.length === 0) return;
  const [rows = 0, width = 0] = node.shape;
  const inputs = state.node(node.inputs[0] ?? -1).shape.at(-1) ?? 0;
  const all = { x: state.input(node, 0), y: product, rows, inputs, width };
  const { tokens, outputRows } = state.shape;
  const which = rows === tokens ? 'all' : rows === outputRows ? 'wanted' : 'logits';
  addGrouped(state, all, parts, which);
  if (which === 'all') for (const segment of shape.alone) addAlone(state, all, parts, segment);
}

function addGrouped(
  state: LoweringState,
  { x, y, rows, inputs, width }: Product,
  parts: readonly ProductPart[],
  which: 'all' | 'wanted' | 'logits',
): void {
  const { ggml, context } = state;
  const { groups, rank, ...shape } = definite(state.shape.adapters, 'the shape of adapters');
  const length = { all: shape.rows, wanted: shape.wantedRows, logits: shape.logitRows }[which];
  if (length === 0) return;
  const { rows: lists } = definite(state.parts.adapters, 'adapters');
  const list = lists[which];
  const gather = lists.tensor(context, list.gatherAddress, groups * length);
  const places = lists.tensor(context, list.placesAddress, rows);
  const gathered = ggml.ggml_reshape_4d(
    context,
    ggml.ggml_get_rows(context, x, gather),
    inputs,
    length,
    groups,
    1,
  );
  for (const { matrices, column, outputs } of parts) {
    const a = matrixTensor(state, matrices, 'a', groups, rank);
    const b = matrixTensor(state, matrices, 'b', groups, rank);
    // [groups, rank, length], so that B's product can add up rows of B.
    const low = ggml.ggml_mul_mat(context, gathered, a);
    const high = ggml.ggml_out_prod(context, b, low);
    const flat = ggml.ggml_reshape_4d(context, high, outputs, length * groups, 1, 1);
    const changed = ggml.ggml_get_rows(context, flat, places);
    addTo(state, y, changed, { column, outputs, firstRow: 0, rows, width });
  }
}

function addAlone(
  state: LoweringState,
  { x, y, inputs, width }: Product,
  parts: readonly ProductPart[],
  index: number,
): void {
  const { ggml, context } = state;
  const { rank } = definite(state.shape.adapters, 'the shape of adapters');
  const { rows, firstRow } = definite(state.segments[index], 'a segment');
  const stride = stridesOf(x)[1];
  const bytes = stride * rows;
  const own = ggml.ggml_view_4d(context, x, inputs, rows, 1, 1, stride, bytes, bytes, stride * firstRow);
  for (const { matrices, column, outputs } of parts) {
    const a = matrixTensor(state, matrices, 'a', 1, rank, index);
    const b = matrixTensor(state, matrices, 'b', 1, rank, index);
    const high = ggml.ggml_out_prod(context, b, ggml.ggml_mul_mat(context, own, a));
    addTo(state, y, high, { column, outputs, firstRow, rows, width });
  }
}

/** A or transposed B of neighbouring places, to be pointed at the first of them before each run. */
function matrixTensor(
  state: LoweringState,
  matrices: AdapterMatrices,
  kind: 'a' | 'b',
  groups: number,
  rank: number,
  segment?: number,
): Tensor {
  const { ggml, context } = state;
  const width = kind === 'a' ? matrices.inputs : matrices.outputs;
  const placeBytes = kind === 'a' ? matrices.aPlaceBytes : matrices.bPlaceBytes;
  const address = kind === 'a' ? matrices.aAddress : matrices.bAddress;
  const tensor = ggml.ggml_new_tensor_3d(context, float32Type, width, rank, groups);
  setMember(tensor, tensorOffsets.nb + 16, placeBytes);
  setMember(tensor, tensorOffsets.nb + 24, placeBytes * groups);
  ggml.ggml_backend_tensor_alloc(matrices.buffer, tensor, BigInt(address));
  state.adapterTensors.push({ tensor, address, placeBytes, segment });
  return tensor;
}

/** y += change, on some rows and columns of it. */
function addTo(
  state: LoweringState,
  y: Tensor,
  change: Tensor,
  at: { column: number; outputs: number; firstRow: number; rows: number; width: number },
): void {
  const { ggml, context } = state;
  const stride = stridesOf(y)[1];
  const offset = at.firstRow * stride + at.column * elementBytes;
  const bytes = stride * at.rows;
  const view = ggml.ggml_view_4d(context, y, at.outputs, at.rows, 1, 1, stride, bytes, bytes, offset);
  state.expand(ggml.ggml_add_inplace(context, view, change));
}
