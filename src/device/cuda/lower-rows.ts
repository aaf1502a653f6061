import { assert, definite } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import type { Op } from '../../graph/ops.ts';
import { elementCount, rowLength } from '../../graph/rules.ts';
import { float, int, pointer } from './launch.ts';
import { quantizeGated, quantizeNorm } from './lower-fp8.ts';
import { deferNorm } from './lower-linear.ts';
import { lowerSumNorm } from './lower-sums.ts';
import { gridOver, type Lower, type LoweringState, unsupported } from './lowering.ts';
import { elementBytes, isContiguous, type View } from './views.ts';

/** OP in `elementwise.cu`. */
const functions: Readonly<Record<string, number>> = {
  add: 0,
  multiply: 1,
  scale: 2,
  silu: 3,
  'gelu tanh': 4,
  'gelu erf': 5,
  'gelu quick': 6,
  relu: 7,
  tanh: 8,
  sigmoid: 9,
  swiglu: 10,
  'geglu tanh': 11,
  'geglu erf': 12,
  'geglu quick': 13,
};

/** Blocks along a grid's second dimension. */
const gridRowsMax = 65535;
const normThreadsMax = 512;
/** Rows of a block of `rmsNormRows`, one a warp, and 16-byte vectors that a row may have there. */
const normWarps = 4;
const normVectorsMax = 512;
/** Fewer rows are faster with a block each: 3.3 µs instead of 6.7 for 256 of them. */
const normRowsMin = 1024;
const normElementsPerThread = 8;

function threadsFor(width: number, perThread: number): number {
  return Math.max(32, Math.min(normThreadsMax, Math.ceil(width / perThread / 32) * 32));
}

/** A view of a node's rows without gaps; copies where there are some. */
function contiguous(state: LoweringState, view: View): View {
  if (isContiguous(view)) return view;
  const copy = state.fresh(view.rows, view.width, view.type);
  const box = { outer: view.rows, middle: 1, inner: view.width };
  pushCopy(state, view, copy, {
    ...box,
    fromOuter: view.stride,
    fromMiddle: 0,
    toOuter: copy.stride,
    toMiddle: 0,
  });
  return copy;
}

interface Box {
  outer: number;
  middle: number;
  inner: number;
  fromOuter: number;
  fromMiddle: number;
  toOuter: number;
  toMiddle: number;
}

function pushCopy(state: LoweringState, from: View, to: View, box: Box): void {
  state.pushKernel({
    file: 'copy',
    name: 'copyBox',
    grid: gridOver(box.outer * box.middle * box.inner),
    threads: 256,
    touches: [from, to],
    parameters: (at) => [
      at(from),
      at(to),
      int(box.outer),
      int(box.middle),
      int(box.inner),
      int(box.fromOuter),
      int(box.fromMiddle),
      int(box.toOuter),
      int(box.toMiddle),
    ],
  });
}

/** The second operand of a sum or product: activations, or one row (a weight) for all of a's. */
function operand(state: LoweringState, node: GraphNode, a: View): { view: View; isFloat: boolean } {
  const other = state.input(node, 1);
  if (other.op === 'weight' && other.shape.length === 1)
    return { view: { ...state.weightView(other), stride: 0 }, isFloat: true };
  if (other.op === 'weight') unsupported(`${node.op} of a matrix weight`);
  const view = state.view(other);
  const rows = other.shape[0] ?? 1;
  if (other.shape.join() === state.input(node, 0).shape.join()) return { view, isFloat: false };
  if (elementCount(other.shape) === a.width && rows !== a.rows)
    return { view: { ...view, stride: 0 }, isFloat: false };
  return unsupported(`${node.op} of shapes [${state.input(node, 0).shape}] and [${other.shape}]`);
}

function lowerElementwise(state: LoweringState, node: GraphNode): void {
  if (quantizeGated(state, node)) return;
  const attributes: { approximation?: string; factor?: number } = node.attributes as object;
  const key = attributes.approximation ? `${node.op} ${attributes.approximation}` : node.op;
  const a = state.viewOf(node, 0);
  const b = node.inputs.length > 1 ? operand(state, node, a) : undefined;
  // A vector as long as an inner dimension repeats within a row too: rows are then taken that short.
  const width = b && b.view.stride === 0 ? b.view.width : a.width;
  const out = state.result(node);
  const split = a.width / width;
  assert(Number.isInteger(split) && (split === 1 || isContiguous(a)), 'rows that divide evenly');
  const aStride = split === 1 ? a.stride : width;
  state.pushKernel({
    file: 'elementwise',
    name: 'elementwise',
    defines: { OP: definite(functions[key], `function ${key}`), ...(b?.isFloat && { B_FLOAT: 1 }) },
    grid: [Math.ceil(width / 8 / 256), Math.min(gridRowsMax, a.rows * split), 1],
    threads: 256,
    touches: [a, out, ...(b ? [b.view] : [])],
    parameters: (at) => [
      at(a),
      at(b?.view),
      at(out),
      int(a.rows * split),
      int(width),
      int(aStride),
      int(b?.view.stride ?? 0),
      int(split === 1 ? out.stride : width),
      float(attributes.factor ?? 0),
    ],
  });
}

function lowerNorm(state: LoweringState, node: GraphNode): void {
  assert(node.op === 'rmsNorm' || node.op === 'layerNorm', 'a norm');
  if (node.op === 'rmsNorm' && lowerSumNorm(state, node)) return;
  if (node.op === 'rmsNorm' && (deferNorm(state, node) || quantizeNorm(state, node))) return;
  const x = state.viewOf(node, 0);
  const out = state.result(node);
  const width = rowLength(node.shape);
  const heads = x.width / width;
  const weight = state.weightView(state.input(node, 1));
  const bias = node.inputs.length > 2 ? state.weightView(state.input(node, 2)) : undefined;
  const vector = 16 / elementBytes(x.type);
  const isWhole = [width, x.stride, out.stride].every((size) => size % vector === 0);
  const isByWarps =
    node.op === 'rmsNorm' &&
    heads === 1 &&
    isWhole &&
    width <= normVectorsMax * vector &&
    x.rows >= normRowsMin;
  state.pushKernel({
    file: 'norm',
    name: isByWarps ? 'rmsNormRows' : node.op,
    grid: [isByWarps ? Math.ceil(x.rows / normWarps) : x.rows * heads, 1, 1],
    threads: isByWarps ? normWarps * 32 : threadsFor(width, normElementsPerThread),
    touches: [x, out],
    parameters: (at) => [
      at(x),
      at(out),
      at(weight),
      at(bias),
      int(isByWarps ? x.rows : heads),
      int(width),
      int(x.stride),
      int(out.stride),
      float(node.attributes.epsilon),
    ],
  });
}

function lowerEmbedding(state: LoweringState, node: GraphNode): void {
  const table = state.weightView(state.input(node, 0));
  pushGather(state, table, state.input(node, 1), state.result(node));
}

function lowerRows(state: LoweringState, node: GraphNode): void {
  pushGather(state, state.viewOf(node, 0), state.input(node, 1), state.result(node));
}

function pushGather(state: LoweringState, table: View, ids: GraphNode, out: View): void {
  assert(ids.op === 'input', 'ids of the batch');
  const { step } = state;
  const named: Readonly<Record<string, number>> = {
    tokens: step.tokens,
    positions: step.positions,
    outputRows: step.outputRows,
    logitRows: step.logitRows,
  };
  const address = definite(named[ids.attributes.name], `input '${ids.attributes.name}'`);
  const isTokens = ids.attributes.name === 'tokens';
  state.pushKernel({
    file: 'embedding',
    name: 'embedding',
    grid: [out.rows, 1, 1],
    threads: threadsFor(out.width, normElementsPerThread),
    touches: [table, out],
    parameters: (at) => [
      at(table),
      pointer(address),
      pointer(isTokens ? step.sampled : 0),
      at(out),
      int(out.width),
      int(table.stride),
      int(out.stride),
    ],
  });
}

function lowerSoftmax(state: LoweringState, node: GraphNode): void {
  const width = rowLength(node.shape);
  const x = contiguous(state, state.viewOf(node, 0));
  const out = state.result(node);
  const rows = (x.rows * x.width) / width;
  state.pushKernel({
    file: 'softmax',
    name: 'softmax',
    grid: [rows, 1, 1],
    threads: threadsFor(width, normElementsPerThread),
    touches: [x, out],
    parameters: (at) => [at(x), at(out), int(width), int(width), int(width)],
  });
}

function lowerReshape(state: LoweringState, node: GraphNode): void {
  const x = state.viewOf(node, 0);
  const [rows = 1] = node.shape;
  if (rows === x.rows) state.setView(node, x);
  else {
    const whole = contiguous(state, x);
    const width = elementCount(node.shape) / rows;
    state.setView(node, { ...whole, rows, width, stride: width });
  }
}

function lowerSlice(state: LoweringState, node: GraphNode): void {
  assert(node.op === 'slice', 'a slice');
  const { axis, start, end } = node.attributes;
  const x = state.viewOf(node, 0);
  const { shape } = state.input(node, 0);
  const inner = elementCount(shape.slice(axis + 1));
  if (axis === 0) state.setView(node, { ...x, offset: x.offset + start * x.stride, rows: end - start });
  else if (axis === 1)
    state.setView(node, { ...x, offset: x.offset + start * inner, width: (end - start) * inner });
  else {
    const out = state.result(node);
    const size = shape[axis] ?? 1;
    pushCopy(state, { ...x, offset: x.offset + start * inner }, out, {
      outer: x.rows,
      middle: x.width / (size * inner),
      inner: (end - start) * inner,
      fromOuter: x.stride,
      fromMiddle: size * inner,
      toOuter: out.stride,
      toMiddle: (end - start) * inner,
    });
  }
}

function lowerConcat(state: LoweringState, node: GraphNode): void {
  assert(node.op === 'concat', 'a concat');
  const { axis } = node.attributes;
  const out = state.result(node);
  let done = 0;
  node.inputs.forEach((_, index) => {
    const { shape } = state.input(node, index);
    const x = state.viewOf(node, index);
    const size = shape[axis] ?? 1;
    const inner = elementCount(shape.slice(axis + 1));
    const total = node.shape[axis] ?? 1;
    const middle = axis === 0 ? 1 : x.width / (size * inner);
    const isRows = axis === 0;
    const to = { ...out, offset: out.offset + (isRows ? done * out.stride : done * inner) };
    pushCopy(state, x, to, {
      outer: x.rows,
      middle,
      inner: isRows ? x.width : size * inner,
      fromOuter: x.stride,
      fromMiddle: size * inner,
      toOuter: out.stride,
      toMiddle: total * inner,
    });
    done += size;
  });
}

/** How each op becomes kernels; linear, rope and attention lie in files of their own. */
export const rowOps: Partial<Record<Op, Lower>> = {
  embedding: lowerEmbedding,
  rmsNorm: lowerNorm,
  layerNorm: lowerNorm,
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
  rows: lowerRows,
  softmax: lowerSoftmax,
  reshape: lowerReshape,
  slice: lowerSlice,
  concat: lowerConcat,
};

/** Rows of float32 for a result that callers read; the result itself where it is float32 already. */
export function asFloat32(state: LoweringState, view: View): View {
  if (view.type === 'f32' && isContiguous(view)) return view;
  const out = state.fresh(view.rows, view.width, 'f32');
  state.pushKernel({
    file: 'cast',
    name: 'toFloat32',
    grid: gridOver(view.rows * view.width),
    threads: 256,
    touches: [view, out],
    parameters: (at) => [at(view), at(out), pointer(0), int(view.rows), int(view.width), int(view.stride)],
  });
  return out;
}
