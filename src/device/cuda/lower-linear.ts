import { assert, definite } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import { quantizeWidthMax } from './fp8.ts';
import type { GemmShape } from './gemm.ts';
import { float, int, pointer } from './launch.ts';
import { pushAdapters } from './lower-adapters.ts';
import { attentionOf, type CacheTarget, cacheTarget, ropeArguments } from './lower-attention.ts';
import { feedsFp8Only, isFp8Product, quantizedInput } from './lower-fp8.ts';
import { gatherBehind, gatheredStride, pushAllReduce } from './lower-ranks.ts';
import { fitsRow, isSummedByNorm, pushSum, readerRowsMax, splitsOfProduct } from './lower-sums.ts';
import type { LoweringState } from './lowering.ts';
import { gemvSharedBytes, streams, variantOf } from './streaming.ts';
import type { ActivationType, View } from './views.ts';

type LinearNode = Extract<GraphNode, { op: 'linear' }>;

/** What else one product's operation does. */
interface Around {
  /** Added to the product, in place. */
  residual?: View;
  /** The RMSNorm of the input, done on the way in. */
  norm?: { weight: View; epsilon: number };
  isGated: boolean;
  /** Who reads the result multiplies its scales in. */
  isUnscaled?: boolean;
  /** The result is q, k and v: they turn, and k and v go into the cache. */
  cache?: CacheTarget;
}

/** Remembers a norm that every reader can do on the way in. @returns whether it could */
export function deferNorm(state: LoweringState, node: Extract<GraphNode, { op: 'rmsNorm' }>): boolean {
  const readers = state.readersOf(node);
  if (state.isOutput(node) || node.shape.length !== 2 || state.bucket.hasAdapters) return false;
  if (
    !readers.every(
      ({ node: reader, index }) => reader.op === 'linear' && index === 0 && streams(state, reader),
    )
  )
    return false;
  const weight = state.weightView(state.input(node, 1));
  state.deferredNorms.set(node.id, { x: state.viewOf(node, 0), weight, epsilon: node.attributes.epsilon });
  return true;
}

/** An add whose other operand a product may be added to where that lies; with the sum over the ranks that comes between. */
interface Accumulation {
  add: GraphNode;
  residual: View;
  sum?: GraphNode;
}

function accumulation(state: LoweringState, node: LinearNode): Accumulation | undefined {
  const reader = state.onlyReader(node);
  const sum = reader?.op === 'allReduce' ? reader : undefined;
  const value = sum ?? node;
  const add = sum ? state.onlyReader(sum) : reader;
  if (add?.op !== 'add' || state.isDone(add)) return undefined;
  const other = state.input(add, add.inputs[0] === value.id ? 1 : 0);
  if (other === value || other.shape.join() !== node.shape.join() || !state.hasView(other)) return undefined;
  // Its memory must be its own, and nobody may read it later.
  const owns = other.op === 'embedding' || other.op === 'add' || other.op === 'rows';
  if (!owns || state.isOutput(other)) return undefined;
  if (lastRead(state, other, add) > node.id) return undefined;
  return { add, residual: state.view(other), ...(sum && { sum }) };
}

/** The last node but `except` that reads a value's memory, also through views of it and norms that their readers do. */
function lastRead(state: LoweringState, value: GraphNode, except: GraphNode): number {
  let last = -1;
  for (const { node: reader } of state.readersOf(value)) {
    if (reader === except) continue;
    last = Math.max(last, reader.id);
    if (reader.op === 'slice' || reader.op === 'reshape' || reader.op === 'rmsNorm')
      last = Math.max(last, lastRead(state, reader, except));
  }
  return last;
}

/** A gated activation that reads nothing but the two halves of this product. */
function gatedReader(state: LoweringState, node: LinearNode): GraphNode | undefined {
  const readers = state.readersOf(node);
  if (readers.length !== 2 || state.isOutput(node)) return undefined;
  const [first, second] = readers.map(({ node: reader }) => reader);
  if (first?.op !== 'slice' || second?.op !== 'slice') return undefined;
  const half = (node.shape[1] ?? 0) / 2;
  const isGate = first.attributes.axis === 1 && first.attributes.start === 0 && first.attributes.end === half;
  const isUp =
    second.attributes.axis === 1 && second.attributes.start === half && second.attributes.end === half * 2;
  const gate = state.onlyReader(first);
  if (!isGate || !isUp || gate?.op !== 'swiglu' || gate !== state.onlyReader(second)) return undefined;
  return gate.inputs[0] === first.id && gate.inputs[1] === second.id ? gate : undefined;
}

/** y = x · weight' (+ bias), with what surrounds it where that saves a pass over memory. */
export function lowerLinear(state: LoweringState, node: GraphNode): void {
  assert(node.op === 'linear', 'a linear');
  const gather = gatherBehind(state, node);
  const isLogits = state.isOutput(node) || gather !== undefined;
  const streamed = streams(state, node);
  const { hasAdapters } = state.bucket;
  const gated = streamed && !hasAdapters ? gatedReader(state, node) : undefined;
  const around: Around = { isGated: gated !== undefined };
  const norm = state.deferredNorms.get(node.inputs[0] ?? -1);
  if (norm) around.norm = { weight: norm.weight, epsilon: norm.epsilon };
  let y: View;
  const into =
    gated || isLogits || !(streamed || canAccumulate(state, node)) ? undefined : accumulation(state, node);
  const scaling = isLogits || streamed || biasView(state, node) ? undefined : unscaledShape(state, node);
  if (into && !streamed && !biasView(state, node) && comesInPieces(state, into, scaling)) {
    pushPieces(state, node, into, scaling);
    return;
  }
  if (into) {
    y = into.residual;
    // Of several ranks the first adds the residual to its part of the sum, the others put theirs in its place.
    if (!into.sum || !(state.parts.group && state.parts.group.rank > 0)) around.residual = into.residual;
    state.setView(into.add, y);
    state.markDone(into.add);
    if (into.sum) state.markDone(into.sum);
  } else if (gated) {
    y = state.result(gated);
    state.markDone(gated);
    for (const { node: slice } of state.readersOf(node)) state.markDone(slice);
  } else {
    const [rows = 0, width = 0] = node.shape;
    const type = isLogits ? logitsType(state, node) : state.parts.activation;
    y = { ...state.fresh(rows, gather ? gatheredStride(gather) : width, type), width };
    state.setView(node, y);
  }
  around.isUnscaled = scaling !== undefined && !into && leavesScales(state, node);
  const cache = streamed && !gated && !into && !hasAdapters ? cacheTarget(state, node) : undefined;
  if (cache) around.cache = cache;
  if (streamed) pushGemv(state, node, norm?.x ?? state.viewOf(node, 0), y, around);
  else pushGemm(state, node, y, around);
  if (hasAdapters) pushAdapters(state, node, state.viewOf(node, 0), y);
  if (into?.sum) pushAllReduce(state, y);
}

/** A product of cuBLASLt's whose result lies in rows of `outputStride`. */
function gemmShape(
  state: LoweringState,
  node: LinearNode,
  outputType: ActivationType,
  outputStride: number,
): GemmShape {
  const [rows = 0, outputs = 0] = node.shape;
  const inputs = definite(state.input(node, 1).shape[1], 'inputs');
  const isFp8 = isFp8Product(state, node);
  return {
    rows,
    inputs,
    outputs,
    inputStride: isFp8 ? inputs : state.viewOf(node, 0).stride,
    outputStride,
    inputType: isFp8 ? 'e4m3' : state.parts.activation,
    outputType,
    accumulates: false,
    hasBias: false,
    isScaled: true,
    splits: 1,
  };
}

/**
 * The shape of an 8-bit product that leaves its scales to its reader, which is faster; undefined where it cannot. Its sums of up to 448² a term
 * want bfloat16's range.
 */
function unscaledShape(state: LoweringState, node: LinearNode): GemmShape | undefined {
  const isFew = (node.shape[0] ?? 0) <= readerRowsMax;
  if (!isFew || !isFp8Product(state, node) || state.parts.activation !== 'bf16' || state.bucket.hasAdapters)
    return undefined;
  const shape = { ...gemmShape(state, node, 'bf16', node.shape[1] ?? 0), isScaled: false };
  return state.parts.gemms.supports(shape) ? shape : undefined;
}

/** Whether all that reads a product is a kernel that multiplies scales in: a gate that becomes e4m3, or rope and the cache's writing. */
function leavesScales(state: LoweringState, node: LinearNode): boolean {
  const gate = gatedReader(state, node);
  if (gate) return feedsFp8Only(state, gate) && (gate.shape[1] ?? 0) <= quantizeWidthMax;
  return attentionOf(state, node) !== undefined;
}

/** Whether a product onto the residual stream is done in pieces: for the norm behind it, or where ranks add theirs up, for its scales. */
function comesInPieces(
  state: LoweringState,
  { add, sum }: Accumulation,
  unscaled: GemmShape | undefined,
): boolean {
  if (!sum) return isSummedByNorm(state, add);
  return unscaled !== undefined && fitsRow(state, add.shape[1] ?? 0);
}

/** A product whose pieces are added onto the residual stream: by the norm behind it, or at once where that is another rank's business too. */
function pushPieces(
  state: LoweringState,
  node: LinearNode,
  { add, residual, sum }: Accumulation,
  unscaled: GemmShape | undefined,
): void {
  const { gemms, activation, gpu } = state.parts;
  const [rows = 0, outputs = 0] = node.shape;
  const whole = unscaled ?? gemmShape(state, node, activation, outputs);
  const splits = splitsOfProduct(rows, outputs, whole.inputs, gpu.facts.multiprocessors);
  const cut = { ...whole, splits };
  const shape = (whole.isScaled && whole.inputType === 'e4m3') || !gemms.supports(cut) ? whole : cut;
  const weightNode = state.input(node, 1);
  const quantized = whole.inputType === 'e4m3' ? quantizedInput(state, state.input(node, 0)) : undefined;
  const x = quantized?.values ?? state.viewOf(node, 0);
  const weight = state.weightView(weightNode);
  const columns = quantized && state.scalesView(weightNode);
  const parts = state.fresh(rows * shape.splits, outputs);
  state.push({
    name: `gemm ${weight.rows} × ${weight.width}`,
    touches: [x, parts, ...(quantized ? [quantized.scales] : [])],
    prepare: (address) => {
      const operands = {
        ...{ weight: address(weight), x: address(x), y: address(parts) },
        ...(quantized &&
          columns && { weightScales: address(columns), inputScales: address(quantized.scales) }),
      };
      return gemms.prepare(shape, operands, state.rotationOf(weight));
    },
  });
  const scales = quantized && columns && !shape.isScaled && { rows: quantized.scales, columns };
  const pending = { residual, parts, ...(scales && { scales }) };
  state.setView(add, residual);
  state.markDone(add);
  if (!sum) {
    state.pendingSums.set(add.id, pending);
    return;
  }
  state.markDone(sum);
  // Of several ranks the first adds the residual to its part of the sum, the others put theirs in its place.
  pushSum(state, pending, !(state.parts.group && state.parts.group.rank > 0));
  pushAllReduce(state, residual);
}

/** cuBLASLt has no 8-bit products of some kinds on some GPUs: those are done in two steps. */
function canAccumulate(state: LoweringState, node: LinearNode): boolean {
  if (!isFp8Product(state, node)) return true;
  const shape = gemmShape(state, node, state.parts.activation, node.shape[1] ?? 0);
  return state.parts.gemms.supports({ ...shape, accumulates: true });
}

function logitsType(state: LoweringState, node: LinearNode): ActivationType {
  if (!isFp8Product(state, node)) return 'f32';
  const isSupported = state.parts.gemms.supports(gemmShape(state, node, 'f32', node.shape[1] ?? 0));
  return isSupported ? 'f32' : state.parts.activation;
}

function biasView(state: LoweringState, node: LinearNode): View | undefined {
  if (node.inputs.length < 3) return undefined;
  const view = state.weightView(state.input(node, 2));
  return { ...view, type: state.parts.activation };
}

function pushGemv(state: LoweringState, node: LinearNode, x: View, y: View, around: Around): void {
  const weight = state.weightView(state.input(node, 1));
  const bias = biasView(state, node);
  const { norm, residual, isGated } = around;
  const outputs = isGated ? weight.rows / 2 : weight.rows;
  const tiles = Math.ceil(outputs / 16);
  const { multiprocessors } = state.parts.gpu.facts;
  const { warps, unroll, blocksPerMultiprocessor, minBlocks } = variantOf(
    outputs,
    weight.width,
    isGated,
    multiprocessors,
  );
  const { cache } = around;
  const scales = weight.type === 'e4m3' ? state.scalesView(state.input(node, 1)) : undefined;
  const touches = [x, y, ...(residual ? [residual] : [])];
  state.pushKernel({
    file: 'gemv',
    name: 'gemv',
    label: `gemv ${weight.rows} × ${weight.width}`,
    defines: {
      WARPS: warps,
      UNROLL: unroll,
      MIN_BLOCKS: minBlocks,
      ROPE: cache ? 1 : 0,
      NORM: norm ? 1 : 0,
      GATED: isGated ? 1 : 0,
      OUT_FLOAT: y.type === 'f32' ? 1 : 0,
      FP8: scales ? 1 : 0,
      KV_FP8: cache && state.parts.kvType === 'e4m3' ? 1 : 0,
    },
    grid: [Math.min(tiles, multiprocessors * blocksPerMultiprocessor), 1, 1],
    threads: warps * 32,
    sharedBytes: gemvSharedBytes(x.rows, weight.width, isGated, warps),
    touches,
    parameters: (at) => [
      at(weight),
      at(x),
      at(norm?.weight),
      at(bias),
      at(residual),
      at(y),
      int(x.rows),
      int(weight.width),
      int(outputs),
      int(x.stride),
      int(residual?.stride ?? 0),
      int(y.stride),
      float(norm?.epsilon ?? 0),
      ...(scales ? [at(scales)] : []),
      ...(cache ? ropeArguments(cache, at) : []),
    ],
  });
}

function pushGemm(state: LoweringState, node: LinearNode, y: View, around: Around): void {
  assert(!around.norm && !around.isGated, 'a plain product');
  const { gemms, activation } = state.parts;
  const weightNode = state.input(node, 1);
  const weight = state.weightView(weightNode);
  const bias = biasView(state, node);
  const rows = isFp8Product(state, node) ? quantizedInput(state, state.input(node, 0)) : undefined;
  const x = rows?.values ?? state.viewOf(node, 0);
  const scales = rows && { x: rows.scales, weight: state.scalesView(weightNode) };
  const plain = {
    ...gemmShape(state, node, y.type as ActivationType, y.stride),
    accumulates: around.residual !== undefined,
    isScaled: !around.isUnscaled,
  };
  if (around.isUnscaled && scales) state.unscaled.set(node.id, { rows: scales.x, columns: scales.weight });
  // cuBLASLt's bias is of the result's type; float32 logits with a 16-bit bias get it from a kernel.
  const hasBias =
    bias !== undefined && y.type === activation && (!rows || gemms.supports({ ...plain, hasBias: true }));
  const shape = { ...plain, hasBias };
  state.push({
    name: `gemm ${weight.rows} × ${weight.width}`,
    touches: [x, y, ...(rows ? [rows.scales] : [])],
    prepare: (address) => {
      const operands = {
        weight: address(weight),
        x: address(x),
        y: address(y),
        ...(bias && hasBias && { bias: address(bias) }),
        ...(scales && { weightScales: address(scales.weight), inputScales: address(scales.x) }),
      };
      return gemms.prepare(shape, operands, state.rotationOf(weight));
    },
  });
  if (bias && !hasBias) pushBias(state, y, bias);
}

/** y += bias. */
function pushBias(state: LoweringState, y: View, bias: View): void {
  const isFloat = y.type === 'f32';
  state.pushKernel({
    file: 'cast',
    name: isFloat ? 'addBias' : 'addBiasSame',
    grid: [Math.ceil((y.rows * y.width) / 256), 1, 1],
    threads: 256,
    touches: [y],
    parameters: (at) => [at(bias), at(y), pointer(0), int(y.rows), int(y.width), int(y.stride)],
  });
}
