import { assert } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import { int } from './launch.ts';
import { gridOver, type LoweringState, unsupported } from './lowering.ts';
import { type ActivationType, isContiguous, type View } from './views.ts';
import { activationCodes } from './weight-filler.ts';

type GatherNode = Extract<GraphNode, { op: 'allGather' }>;

/** The all-gather that alone reads a value, and whose result is the graph's: the value is this rank's part of the logits. */
export function gatherBehind(state: LoweringState, node: GraphNode): GatherNode | undefined {
  const reader = state.onlyReader(node);
  return reader?.op === 'allGather' && state.isOutput(reader) ? reader : undefined;
}

/** Columns that every rank's part has room for, so that all send as many. */
export function gatheredStride({ attributes }: GatherNode): number {
  return Math.max(...attributes.widths);
}

/** The sum over the ranks of a tensor-parallel group, in place. */
export function lowerAllReduce(state: LoweringState, node: GraphNode): void {
  const x = state.viewOf(node, 0);
  state.setView(node, x);
  pushAllReduce(state, x);
}

/** Replaces rows by their sum over the ranks; one rank has nothing to add. */
export function pushAllReduce(state: LoweringState, x: View): void {
  const { group } = state.parts;
  if (!group) return;
  assert(isContiguous(x), 'rows without gaps');
  state.push({
    name: 'allReduce',
    touches: [x],
    prepare: (address) => {
      const at = address(x);
      return () => group.allReduce(at, x.rows * x.width, x.type as ActivationType);
    },
  });
}

/** Every rank's columns side by side: they come one rank after the other, and are put in their places. */
export function lowerAllGather(state: LoweringState, node: GraphNode): void {
  assert(node.op === 'allGather', 'an all-gather');
  const { group } = state.parts;
  const { widths } = node.attributes;
  if (group?.ranks !== widths.length)
    unsupported(
      `${widths.length} ranks outside a group of as many (serve it with --tensor-parallel ${widths.length})`,
    );
  const own = state.viewOf(node, 0);
  const { rows, type } = own;
  const stride = gatheredStride(node);
  assert(own.stride === stride || rows <= 1, 'rows as long as the widest rank has them');
  const parts = state.fresh(rows * widths.length, stride, type);
  state.push({
    name: 'allGather',
    touches: [own, parts],
    prepare: (address) => {
      const [from, to] = [address(own), address(parts)];
      return () => group.allGather(from, to, rows * stride, type as ActivationType);
    },
  });
  const total = widths.reduce((sum, width) => sum + width, 0);
  const joined = state.fresh(rows, total, type);
  let first = 0;
  widths.forEach((width, rank) => {
    const from = { ...parts, offset: parts.offset + rank * rows * stride, rows, width };
    pushColumns(state, from, { ...joined, offset: joined.offset + first, width });
    first += width;
  });
  state.setView(node, joined);
}

function pushColumns(state: LoweringState, from: View, to: View): void {
  state.pushKernel({
    file: 'copy',
    name: 'copyBox',
    defines: { ACTIVATION: activationCodes[from.type as ActivationType] },
    grid: gridOver(from.rows * from.width),
    threads: 256,
    touches: [from, to],
    parameters: (at) => [
      at(from),
      at(to),
      int(from.rows),
      int(1),
      int(from.width),
      int(from.stride),
      int(0),
      int(to.stride),
      int(0),
    ],
  });
}
