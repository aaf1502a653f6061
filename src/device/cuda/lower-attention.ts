import { assert } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import { type Argument, float, int, pointer } from './launch.ts';
import { type LoweringState, type Unscaled, unsupported } from './lowering.ts';
import { ropeFrequencies, ropeMagnitude } from './rope-table.ts';
import { fixedView, type View } from './views.ts';

type AttentionNode = Extract<GraphNode, { op: 'attention' }>;
type RopeNode = Extract<GraphNode, { op: 'rope' }>;

const ropeThreads = 256;
const ropeDimensionsMax = 512;
/** Warps of a block: few sequences want each answered fast, many want many blocks. */
const decodeWarpsFew = 8;
const decodeWarpsMany = 4;
const decodeItemsFew = 8;
/** Tiles of a warp's ring: of 8-bit keys and values more are on their way; for few sequences one block a multiprocessor is enough (docs/gpu-log.md). */
const decodeSlots = 4;
const decodeSlotsFp8Many = 5;
const decodeSlotsFp8Few = 8;
/** Blocks of 8-bit attention for many sequences that a multiprocessor holds: their rings fill its shared memory, their registers just fit. */
const decodeBlocksFp8Many = 5;
/** From so many (sequence, key head) pairs a multiprocessor on, blocks take equal runs of all tiles; and blocks that one holds at once. */
const balancedUnits = 2;
/** With more of them blocks of whole sequences are faster (docs/gpu-log.md). */
const balancedUnitsMax = 5;
const balancedBlocks = 3;
/** Positions that one block of split attention takes at least. */
const splitPositionsMin = 512;
const splitsMax = 32;
const headTile = 8;
/** Positions of one turn of the decode kernel, which lie in one KV block. */
export const decodeTile = 16;
/** Rows of one prefill item. */
export const prefillRows = 128;
const prefillTile = 64;
const anyValueMax = 512;

/** The rope that a q or k comes from, through a slice of joined heads. */
function ropeOf(state: LoweringState, node: GraphNode): RopeNode | undefined {
  const source = node.op === 'slice' && node.attributes.axis === 1 ? state.input(node, 0) : node;
  return source.op === 'rope' ? source : undefined;
}

/** Whether everything that reads a rope's result is this attention's q and k. */
function feedsOnly(state: LoweringState, rope: RopeNode, attention: AttentionNode): boolean {
  if (state.isOutput(rope)) return false;
  return state.readersOf(rope).every(({ node, index }) => {
    if (node === attention) return index < 2;
    return node.op === 'slice' && node.attributes.axis === 1 && state.onlyReader(node) === attention;
  });
}

/** The rope that an attention's rows may go through on their way into the cache, if q and k turn alike and nobody else reads them. */
function joinedRope(state: LoweringState, attention: AttentionNode): RopeNode | undefined {
  const q = ropeOf(state, state.input(attention, 0));
  const k = ropeOf(state, state.input(attention, 1));
  if (!q || !k || !feedsOnly(state, q, attention) || !feedsOnly(state, k, attention)) return undefined;
  const same =
    JSON.stringify(q.attributes) === JSON.stringify(k.attributes) &&
    q.inputs.slice(1).join() === k.inputs.slice(1).join();
  return same ? q : undefined;
}

function attentionBehind(state: LoweringState, rope: RopeNode): AttentionNode | undefined {
  for (const { node } of state.readersOf(rope)) {
    const reader = node.op === 'slice' ? state.onlyReader(node) : node;
    if (reader?.op === 'attention') return reader;
  }
  return undefined;
}

function frequencies(state: LoweringState, rope: RopeNode): View {
  const { attributes } = rope;
  if (attributes.dimensions > ropeDimensionsMax) unsupported(`rope of ${attributes.dimensions} dimensions`);
  const factors = rope.inputs.length > 2 ? state.input(rope, 2) : undefined;
  const name = factors?.op === 'weight' ? factors.attributes.name : undefined;
  const address = state.parts.constants.floats(`rope ${JSON.stringify(attributes)} ${name ?? ''}`, () =>
    ropeFrequencies(attributes, name === undefined ? undefined : state.parts.weights.hostValues(name)),
  );
  return fixedView(address, 1, attributes.dimensions / 2, 'f32');
}

/** q, k and v of one launch of `rope.cu`. */
interface Turning {
  q: View;
  qOut: View;
  heads: number;
  dimension: number;
  rope: RopeNode | undefined;
  /** Of the product whose columns q, k and v are, where it left them to its reader. */
  scales?: Unscaled | undefined;
  cache?: { k: View; v: View; kv: View; kvHeads: number; valueDimension: number };
}

function pushRope(state: LoweringState, { q, qOut, heads, dimension, rope, scales, cache }: Turning): void {
  const table = rope && frequencies(state, rope);
  const positions = fixedView(state.step.positions, 1, q.rows, 'f32');
  const places = fixedView(state.step.kvPlaces, 1, q.rows, 'f32');
  state.pushKernel({
    file: 'rope',
    name: 'rope',
    defines: {
      ROPE_INTERLEAVED: rope?.attributes.mode === 'interleaved' ? 1 : 0,
      KV_FP8: cache && state.parts.kvType === 'e4m3' ? 1 : 0,
      SCALED: scales ? 1 : 0,
    },
    grid: [q.rows, 1, 1],
    threads: ropeThreads,
    touches: [q, qOut, ...(cache ? [cache.k, cache.v] : []), ...(scales ? [scales.rows] : [])],
    parameters: (at) => [
      at(q),
      at(qOut),
      at(cache?.k),
      at(cache?.v),
      at(cache?.kv),
      at(table),
      at(positions),
      at(places),
      int(q.stride),
      int(qOut.stride),
      int(cache?.k.stride ?? 0),
      int(cache?.v.stride ?? 0),
      int(heads),
      int(cache?.kvHeads ?? 0),
      int(dimension),
      int(cache?.valueDimension ?? 0),
      int(state.parts.blockPositions),
      int(rope?.attributes.dimensions ?? 0),
      float(rope ? ropeMagnitude(rope.attributes) : 1),
      ...(scales ? [at(scales.rows), at(scales.columns)] : []),
    ],
  });
}

/** The attention whose turned q, k and v are exactly one product's columns. */
export interface CacheTarget {
  attention: AttentionNode;
  rope: RopeNode;
  kv: View;
  frequencies: View;
  positions: View;
  places: View;
  blockPositions: number;
}

/** Follows a value through views that change nothing. */
function throughReshapes(state: LoweringState, node: GraphNode): GraphNode {
  return node.op === 'reshape' ? throughReshapes(state, state.input(node, 0)) : node;
}

/** The attention whose q, k and v are exactly one product's columns, in this order, read by nothing else but the rope that lies between. */
export function attentionOf(
  state: LoweringState,
  product: GraphNode,
): { attention: AttentionNode; rope: RopeNode } | undefined {
  const attention = state.fused.graph.nodes.find(
    (node): node is AttentionNode =>
      node.op === 'attention' && node.id > product.id && isColumns(state, state.input(node, 2), product),
  );
  if (!attention) return undefined;
  const { heads, kvHeads, headDimension, valueHeadDimension } = attention.attributes;
  const rope = joinedRope(state, attention);
  const width = (heads + 2 * kvHeads) * headDimension;
  if (!rope || headDimension !== valueHeadDimension || product.shape[1] !== width) return undefined;
  const isWhole =
    rope.shape[1] === heads + kvHeads &&
    isColumns(state, state.input(rope, 0), product, 0) &&
    isColumns(state, state.input(attention, 2), product, (heads + kvHeads) * headDimension) &&
    state.readersOf(product).every(({ node }) => node.op === 'slice' && state.readersOf(node).length <= 1);
  return isWhole ? { attention, rope } : undefined;
}

/** The attention that a stacked q/k/v product feeds, if the product may do what lies between: rope over neighbouring pairs. */
export function cacheTarget(state: LoweringState, product: GraphNode): CacheTarget | undefined {
  const fed = attentionOf(state, product);
  if (fed?.rope.attributes.mode !== 'interleaved' || fed.attention.attributes.headDimension % 2 !== 0)
    return undefined;
  const { attention, rope } = fed;
  const { layer } = attention.attributes;
  state.filledAttentions.add(attention.id);
  const rows = product.shape[0] ?? 1;
  return {
    attention,
    rope,
    kv: fixedView(state.parts.kvLayer(layer), 1, 1, state.parts.activation),
    frequencies: frequencies(state, rope),
    positions: fixedView(state.step.positions, 1, rows, 'f32'),
    places: fixedView(state.step.kvPlaces, 1, rows, 'f32'),
    blockPositions: state.parts.blockPositions,
  };
}

function isColumns(state: LoweringState, node: GraphNode, product: GraphNode, start?: number): boolean {
  const slice = throughReshapes(state, node);
  if (slice.op !== 'slice' || slice.attributes.axis !== 1 || state.input(slice, 0) !== product) return false;
  return start === undefined || slice.attributes.start === start;
}

/** The members of `gemv.cu`'s Parameters that ROPE adds. */
export function ropeArguments(target: CacheTarget, at: (view: View) => Argument): Argument[] {
  const { heads, kvHeads, headDimension } = target.attention.attributes;
  return [
    float(ropeMagnitude(target.rope.attributes)),
    at(target.kv),
    at(target.frequencies),
    at(target.positions),
    at(target.places),
    int(heads),
    int(kvHeads),
    int(headDimension),
    int(target.blockPositions),
    int(target.rope.attributes.dimensions),
  ];
}

/** A rope by itself; one that feeds an attention is done with the cache's writing instead. */
export function lowerRope(state: LoweringState, node: GraphNode): void {
  assert(node.op === 'rope', 'a rope');
  const attention = attentionBehind(state, node);
  const x = state.viewOf(node, 0);
  if (attention && joinedRope(state, attention) && feedsOnly(state, node, attention)) {
    state.setView(node, x);
    return;
  }
  const [, heads = 1, dimension = 1] = node.shape;
  pushRope(state, { q: x, qOut: state.result(node), heads, dimension, rope: node });
}

/** Appends this step's keys and values to the cache, then attends. */
export function lowerAttention(state: LoweringState, node: GraphNode): void {
  assert(node.op === 'attention', 'an attention');
  const { layer, heads, kvHeads, headDimension, valueHeadDimension } = node.attributes;
  const q = state.viewOf(node, 0);
  const kv = fixedView(state.parts.kvLayer(layer), 1, 1, state.parts.activation);
  const isFilled = state.filledAttentions.has(node.id);
  const rope = joinedRope(state, node);
  const turned = rope && !isFilled ? state.fresh(q.rows, heads * headDimension) : q;
  if (!isFilled)
    pushRope(state, {
      q,
      qOut: turned,
      heads: rope ? heads : 0,
      dimension: headDimension,
      rope,
      scales: scalesOf(state, node),
      cache: {
        k: state.viewOf(node, 1),
        v: state.viewOf(node, 2),
        kv,
        kvHeads,
        valueDimension: valueHeadDimension,
      },
    });
  const out = state.result(node);
  const isFast =
    state.parts.activation !== 'f32' &&
    headDimension === valueHeadDimension &&
    (headDimension === 64 || headDimension === 128) &&
    turned.stride % 8 === 0 &&
    state.parts.blockPositions % decodeTile === 0;
  if (!isFast) {
    if (state.parts.kvType === 'e4m3') unsupported(`an fp8 KV cache with heads of ${headDimension} elements`);
    pushAny(state, node, turned, out, kv);
    return;
  }
  if (state.bucket.decodeItems > 0) pushDecode(state, node, turned, out, kv);
  if (state.bucket.prefillItems > 0) pushPrefill(state, node, turned, out, kv);
}

/** The scales that the product of an attention's v (and so of its q and k) left out. */
function scalesOf(state: LoweringState, attention: AttentionNode): Unscaled | undefined {
  const slice = throughReshapes(state, state.input(attention, 2));
  return slice.op === 'slice' ? state.unscaled.get(state.input(slice, 0).id) : undefined;
}

/** How many blocks a sequence's keys are divided over, so that few sequences still fill the GPU. */
export function splitsOf(sequences: number, blocksPerSequence: number, multiprocessors: number): number {
  return Math.max(1, Math.min(splitsMax, Math.ceil((2 * multiprocessors) / (sequences * blocksPerSequence))));
}

function pushDecode(state: LoweringState, node: AttentionNode, q: View, out: View, kv: View): void {
  const { heads, kvHeads, headDimension, scale, window, softcap } = node.attributes;
  const items = state.bucket.decodeItems;
  const { multiprocessors } = state.parts.gpu.facts;
  const groups = kvHeads * Math.ceil(heads / kvHeads / headTile);
  const units = (items * groups) / multiprocessors;
  const isBalanced = units >= balancedUnits && units <= balancedUnitsMax && window === undefined;
  const decodeWarps = items <= decodeItemsFew ? decodeWarpsFew : decodeWarpsMany;
  const splits = splitsOf(items, groups, multiprocessors);
  const blocks = multiprocessors * balancedBlocks;
  const partial = isBalanced
    ? state.fresh(blocks * 2 * headTile, headDimension + 2, 'f32')
    : state.fresh(items * heads * splits, headDimension + 2, 'f32');
  const isFp8 = state.parts.kvType === 'e4m3';
  const elementSize = isFp8 ? 1 : 2;
  const slotsFp8 = items <= decodeItemsFew ? decodeSlotsFp8Few : decodeSlotsFp8Many;
  const slots = isFp8 ? slotsFp8 : decodeSlots;
  const ring = decodeWarps * slots * decodeTile * headDimension * elementSize;
  const merge = decodeWarps * headTile * (headDimension + 2) * 4;
  const step = (address: number) => fixedView(address, 1, 1, 'f32');
  state.pushKernel({
    file: 'attention-decode',
    name: 'attentionDecode',
    defines: {
      HEAD: headDimension,
      WARPS: decodeWarps,
      SLOTS: slots,
      MIN_BLOCKS: isFp8 && !isBalanced && items > decodeItemsFew ? decodeBlocksFp8Many : 0,
      BLOCK: state.parts.blockPositions,
      KV_FP8: isFp8 ? 1 : 0,
      BALANCED: isBalanced ? 1 : 0,
    },
    grid: isBalanced ? [blocks, 1, 1] : [groups, items, splits],
    threads: decodeWarps * 32,
    sharedBytes: Math.max(ring, merge),
    touches: [q, out, partial],
    parameters: (at) => [
      at(q),
      at(out),
      at(kv),
      at(step(state.step.decodeItems)),
      at(step(state.step.blocks)),
      at(partial),
      at(step(state.step.arrivals)),
      int(q.stride),
      int(out.stride),
      int(heads),
      int(kvHeads),
      int(window ?? 0),
      int(splitPositionsMin),
      int(splits),
      int(items),
      float(scale),
      float(softcap ?? 0),
    ],
  });
}

function pushPrefill(state: LoweringState, node: AttentionNode, q: View, out: View, kv: View): void {
  const { heads, kvHeads, headDimension, scale, window, softcap } = node.attributes;
  const isFp8 = state.parts.kvType === 'e4m3';
  const step = (address: number) => fixedView(address, 1, 1, 'f32');
  state.pushKernel({
    file: 'attention-prefill',
    name: 'attentionPrefill',
    defines: { HEAD: headDimension, BLOCK: state.parts.blockPositions, KV_FP8: isFp8 ? 1 : 0 },
    grid: [heads, state.bucket.prefillItems, 1],
    threads: 128,
    sharedBytes: (prefillRows * 2 + 2 * prefillTile * (isFp8 ? 1 : 2)) * headDimension,
    touches: [q, out],
    parameters: (at) => [
      at(q),
      at(out),
      at(kv),
      at(step(state.step.prefillItems)),
      at(step(state.step.prefillCount)),
      at(step(state.step.blocks)),
      int(q.stride),
      int(out.stride),
      int(heads),
      int(kvHeads),
      int(window ?? 0),
      float(scale),
      float(softcap ?? 0),
    ],
  });
}

function pushAny(state: LoweringState, node: AttentionNode, q: View, out: View, kv: View): void {
  const { heads, kvHeads, headDimension, valueHeadDimension, scale, window, softcap } = node.attributes;
  if (valueHeadDimension > anyValueMax) unsupported(`attention heads of ${valueHeadDimension} elements`);
  const { step, parts } = state;
  state.pushKernel({
    file: 'attention-any',
    name: 'attentionAny',
    grid: [q.rows, heads, 1],
    threads: 128,
    touches: [q, out],
    parameters: (at) => [
      at(q),
      at(out),
      at(kv),
      pointer(step.positions),
      pointer(step.tables),
      pointer(step.blocks),
      int(q.stride),
      int(out.stride),
      int(heads),
      int(kvHeads),
      int(headDimension),
      int(valueHeadDimension),
      int(parts.blockPositions),
      int(window ?? 0),
      float(scale),
      float(softcap ?? 0),
    ],
  });
}
