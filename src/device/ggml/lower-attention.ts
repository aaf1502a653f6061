import { definite } from '../../base/errors.ts';
import type { Tensor } from './handles.ts';
import type { KvLayerLayout } from './kv-arena.ts';
import { copyRows, placeRows } from './lower-linear.ts';
import type { LoweringState, NodeOf, SegmentTensors } from './lowering-state.ts';
import { dimensionsOf, readMember, setMember, stridesOf, tensorOffsets } from './tensor-struct.ts';
import type { ExtendedInput } from './workspace.ts';

const float16Type = 1;
const elementBytes = 4;

type AttentionNode = NodeOf<'attention'>;

/**
 * Writes the step's keys and values into the KV arena, then attends segment by segment: sequences share no cells, so nothing masked is walked.
 * The arena views are pointed at their slots before each run.
 */
export function lowerAttention(state: LoweringState, node: AttentionNode): Tensor {
  writeKv(state, node);
  const { heads, valueHeadDimension } = node.attributes;
  const width = heads * valueHeadDimension;
  const extended = extendedTarget(state, node, width);
  const joinedAddress = extended ? undefined : joinAddress(state, node, width);
  const results = state.segments.map((segment) => attend(state, node, segment, extended, joinedAddress));
  if (joinedAddress !== undefined) {
    const joined = state.ggml.ggml_new_tensor_2d(state.context, 0, width, state.shape.tokens);
    return state.parts.workspace.place(joined, joinedAddress);
  }
  if (extended) {
    state.extendedInPlace.add(node.id);
    const joined = state.ggml.ggml_new_tensor_2d(state.context, 0, width, state.shape.tokens);
    const bytes = extended.rowBytes * state.shape.tokens;
    placeRows(state, joined, extended.address, [extended.rowBytes, bytes, bytes]);
    return joined;
  }
  return results.reduce((joined, result) => state.ggml.ggml_concat(state.context, joined, result, 1));
}

/**
 * Where all segments' results may lie side by side, if whoever reads them does so before the next attention writes there. Joining them by
 * `ggml_concat`, one after the other, would copy segments² / 2 results: 2.3 GB a step at 256 sequences of SmolLM2-135M.
 */
function joinAddress(state: LoweringState, node: AttentionNode, width: number): number | undefined {
  if (state.segments.length < 2) return undefined;
  const next = state.fused.graph.nodes.find((other) => other.id > node.id && other.op === 'attention');
  const readers = state.consumers[node.id] ?? [];
  const isReadBefore = readers.every((reader) => reader.id < (next?.id ?? Number.POSITIVE_INFINITY));
  const isOutput = Object.values(state.fused.graph.outputs).includes(node.id);
  return isReadBefore && !isOutput ? state.parts.workspace.joinedAddress(width) : undefined;
}

/** The extended input to write into, if the next linear is the only reader and wants one. */
function extendedTarget(state: LoweringState, node: AttentionNode, width: number): ExtendedInput | undefined {
  const [reader, ...others] = state.consumers[node.id] ?? [];
  const next = state.fused.graph.nodes.find((other) => other.id > node.id && other.op === 'linear');
  if (reader?.op !== 'linear' || others.length > 0 || reader !== next) return undefined;
  const weight = state.node(reader.inputs[1] ?? -1);
  const wants = weight.op === 'weight' && state.parts.weights.matrix(weight.attributes.name).extraColumns > 0;
  return wants ? state.parts.workspace.extendedInput(width) : undefined;
}

function writeKv(state: LoweringState, node: AttentionNode): void {
  const layout = definite(state.parts.kv.layers[node.attributes.layer], 'a KV layer');
  const keys = wholeRows(state, state.input(node, 1));
  const values = wholeRows(state, state.input(node, 2));
  const { headDimension, valueHeadDimension } = layout;
  if (headDimension === valueHeadDimension && areNeighbours(keys, values)) {
    setRows(state, layout, { tensor: keys, dimension: headDimension, offset: 0, parts: 2 });
    return;
  }
  setRows(state, layout, { tensor: keys, dimension: headDimension, offset: 0, parts: 1 });
  setRows(state, layout, {
    tensor: values,
    dimension: valueHeadDimension,
    offset: layout.valueOffset,
    parts: 1,
  });
}

/** The tensor with the heads of each token side by side. */
function wholeRows(state: LoweringState, tensor: Tensor): Tensor {
  const [dimension] = dimensionsOf(tensor);
  return stridesOf(tensor)[1] === dimension * elementBytes
    ? tensor
    : state.ggml.ggml_cont(state.context, tensor);
}

/** Whether each token's values follow its keys in memory, as columns of one stacked linear do: then one op writes both. */
function areNeighbours(keys: Tensor, values: Tensor): boolean {
  const root = readMember(keys, tensorOffsets.viewSource);
  if (root === 0n || root !== readMember(values, tensorOffsets.viewSource)) return false;
  const [dimension, heads, tokens] = dimensionsOf(keys);
  const gap = readMember(values, tensorOffsets.viewOffset) - readMember(keys, tensorOffsets.viewOffset);
  const sameRows = tokens === 1 || stridesOf(keys)[2] === stridesOf(values)[2];
  return gap === BigInt(dimension * heads * elementBytes) && sameRows;
}

interface KvPart {
  /** [tokens, kvHeads, dimension] with each token's heads side by side; with `parts` 2 the values of all heads follow. */
  tensor: Tensor;
  dimension: number;
  /** Bytes into the arena's rows. */
  offset: number;
  parts: 1 | 2;
}

/** Scatters [tokens, parts, kvHeads, dimension] to the arena's rows: one index a token and head, for both parts. */
function setRows(state: LoweringState, layout: KvLayerLayout, part: KvPart): void {
  const { ggml, context } = state;
  const { kv, kvTypeId } = state.parts;
  const { kvHeads, rowBytes } = layout;
  const { dimension, parts } = part;
  const { tokens } = state.shape;
  const headsBytes = kvHeads * dimension * elementBytes;
  const tokenStride = tokens === 1 ? headsBytes * parts : stridesOf(part.tensor)[2];
  const shape = [dimension, kvHeads, parts, tokens] as const;
  const strides = [dimension * elementBytes, headsBytes, tokenStride] as const;
  const rows = ggml.ggml_view_4d(context, part.tensor, ...shape, ...strides, 0);
  const start = layout.offset + part.offset;
  const arenaRows = Math.floor((kv.bytes - start) / rowBytes);
  const arena = ggml.ggml_new_tensor_4d(context, kvTypeId, dimension, arenaRows, parts, tokens);
  const written = ggml.ggml_set_rows(context, arena, rows, state.rowIndices(layout.rowClass, kvHeads));
  // Every token sees the same rows, and the values' rows start where the keys end: strides that ggml does not foresee, hence set on
  // the finished op and on the tensor that it views.
  for (const tensor of [arena, written]) {
    setMember(tensor, tensorOffsets.nb + 8, rowBytes);
    setMember(tensor, tensorOffsets.nb + 16, layout.valueOffset);
    setMember(tensor, tensorOffsets.nb + 24, 0);
  }
  ggml.ggml_backend_tensor_alloc(kv.buffer, arena, BigInt(kv.address + start));
  state.expand(written);
}

/** One segment's attention: [rows, heads · valueHeadDimension], written into `extended` or at its place behind `joinedAddress` if given. */
function attend(
  state: LoweringState,
  node: AttentionNode,
  segment: SegmentTensors,
  extended: ExtendedInput | undefined,
  joinedAddress: number | undefined,
): Tensor {
  const { ggml, context } = state;
  const { heads, headDimension, valueHeadDimension, scale, softcap } = node.attributes;
  const q = state.input(node, 0);
  const [, headStride, rowStride] = stridesOf(q);
  const { rows } = segment;
  const queries = ggml.ggml_view_4d(
    context,
    q,
    headDimension,
    rows,
    heads,
    1,
    rowStride,
    headStride,
    rowStride * rows,
    rowStride * segment.firstRow,
  );
  const { keys, values } = newViews(state, node, segment);
  const mask = rows > 1 ? maskOf(state, node, segment) : null;
  const result = ggml.ggml_flash_attn_ext(context, queries, keys, values, mask, scale, 0, softcap ?? 0);
  const width = heads * valueHeadDimension;
  if (extended && rows === 1) {
    state.parts.workspace.place(result, extended.address + segment.firstRow * extended.rowBytes);
  }
  if (joinedAddress !== undefined) {
    state.parts.workspace.place(result, joinedAddress + segment.firstRow * width * elementBytes);
  }
  state.expand(result);
  const flat = ggml.ggml_reshape_4d(context, result, width, rows, 1, 1);
  return extended && rows > 1 ? copyRows(state, flat, extended, segment.firstRow, rows, width) : flat;
}

/** The segment's keys and values as the kernel reads them: [kvHeads, positions, dimension], one position for now. */
function newViews(
  state: LoweringState,
  node: AttentionNode,
  segment: SegmentTensors,
): { keys: Tensor; values: Tensor } {
  const { ggml, context, parts } = state;
  const { kv, kvTypeId } = parts;
  const { layer, kvHeads, headDimension, valueHeadDimension } = node.attributes;
  const layout = definite(kv.layers[layer], 'a KV layer');
  const view = (dimension: number, offset: number) => {
    const tensor = ggml.ggml_new_tensor_3d(context, kvTypeId, dimension, 1, kvHeads);
    setMember(tensor, tensorOffsets.nb + 8, layout.rowBytes);
    setMember(tensor, tensorOffsets.nb + 16, layout.headBytes);
    setMember(tensor, tensorOffsets.nb + 24, layout.headBytes * kvHeads);
    ggml.ggml_backend_tensor_alloc(kv.buffer, tensor, BigInt(kv.address + layout.offset + offset));
    return tensor;
  };
  const views = { keys: view(headDimension, 0), values: view(valueHeadDimension, layout.valueOffset) };
  segment.views.push({ layer, ...views });
  return views;
}

function maskOf(state: LoweringState, node: AttentionNode, segment: SegmentTensors): Tensor {
  const windowClass = state.parts.windows.indexOf(node.attributes.window);
  const known = segment.masks[windowClass];
  if (known) return known;
  const mask = state.ggml.ggml_new_tensor_2d(state.context, float16Type, 1, segment.rows);
  state.parts.workspace.place(mask, state.parts.workspace.maskAddress(0));
  segment.masks[windowClass] = mask;
  return mask;
}
