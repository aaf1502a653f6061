import type { GraphNode } from '../../graph/graph.ts';
import { quantizeVariant, quantizeWidthMax } from './fp8.ts';
import { float, int } from './launch.ts';
import { feedsFp8Only } from './lower-fp8.ts';
import type { LoweringState, PendingSum } from './lowering.ts';
import { elementBytes, type View } from './views.ts';

type NormNode = Extract<GraphNode, { op: 'rmsNorm' }>;

/**
 * Rows up to which what is left of a product is done by its reader (pieces are added up, scales multiplied in): with more of them the readers
 * lose what cuBLASLt gains (docs/gpu-log.md).
 */
export const readerRowsMax = 1024;
/** Rows and columns of a tile of cuBLASLt's usual products. */
const productTile = 128;

/** Whether the first that reads an add is a norm that can do it on the way. */
export function isSummedByNorm(state: LoweringState, add: GraphNode): boolean {
  const [rows = 0, width = 0] = add.shape;
  const [first] = [...state.readersOf(add)].sort((a, b) => a.node.id - b.node.id);
  if (rows > readerRowsMax || !fitsRow(state, width)) return false;
  if (first?.node.op !== 'rmsNorm' || state.isOutput(add)) return false;
  return first.node.shape.join() === add.shape.join();
}

/** Whether the kernel that adds pieces up takes rows of so many elements. */
export function fitsRow(state: LoweringState, width: number): boolean {
  const { activation } = state.parts;
  if (state.bucket.hasAdapters || activation === 'f32') return false;
  return width <= quantizeWidthMax && width % (16 / elementBytes(activation)) === 0;
}

/** Pieces to cut a product's sum into, so that its tiles fill more of the GPU. */
export function splitsOfProduct(
  rows: number,
  outputs: number,
  inputs: number,
  multiprocessors: number,
): number {
  const tiles = Math.ceil(rows / productTile) * Math.ceil(outputs / productTile);
  return tiles * 2 <= multiprocessors && inputs % (2 * productTile) === 0 ? 2 : 1;
}

/** An RMSNorm that first adds a product's pieces onto the residual stream. @returns whether there were some */
export function lowerSumNorm(state: LoweringState, node: NormNode): boolean {
  const add = state.input(node, 0);
  const pending = state.pendingSums.get(add.id);
  if (!pending) return false;
  state.pendingSums.delete(add.id);
  const { residual: x } = pending;
  const isFp8 = feedsFp8Only(state, node);
  const out = isFp8 ? state.fresh(x.rows, x.width, 'e4m3') : state.result(node);
  const scales = isFp8 ? state.fresh(x.rows, 1, 'f32') : undefined;
  if (scales) state.quantized.set(node.id, { values: out, scales });
  const weight = state.weightView(state.input(node, 1));
  pushSumNorm(
    state,
    pending,
    { weight, out, scales, epsilon: node.attributes.epsilon },
    {
      FP8: isFp8 ? 1 : 0,
    },
  );
  return true;
}

/** A product's pieces where its result is to lie: added onto what is there, or in its place. */
export function pushSum(state: LoweringState, pending: PendingSum, keeps: boolean): void {
  pushSumNorm(state, pending, {}, { NORM: 0, KEEPS: keeps ? 1 : 0 });
}

interface Normed {
  weight?: View;
  out?: View;
  scales?: View | undefined;
  epsilon?: number;
}

function pushSumNorm(
  state: LoweringState,
  { residual: x, parts, scales: unscaled }: PendingSum,
  { weight, out, scales, epsilon = 0 }: Normed,
  defines: Record<string, number>,
): void {
  const { vectors, threads } = quantizeVariant(x.rows, x.width);
  const touches = [x, parts, out, scales, unscaled?.rows].filter((view) => view !== undefined);
  state.pushKernel({
    file: 'sum-norm',
    name: 'sumNorm',
    defines: { PARTS: parts.rows / x.rows, SCALED: unscaled ? 1 : 0, VECTORS: vectors, ...defines },
    grid: [x.rows, 1, 1],
    threads,
    touches,
    parameters: (at) => [
      ...[at(x), at(parts), at(unscaled?.rows), at(unscaled?.columns), at(weight), at(out), at(scales)],
      ...[x.rows, x.width, x.stride, out?.stride ?? 0].map(int),
      float(epsilon),
    ],
  });
}
