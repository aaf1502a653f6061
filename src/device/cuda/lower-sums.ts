import { definite } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import { quantizeVariant, quantizeWidthMax } from './fp8.ts';
import { float, int } from './launch.ts';
import { feedsFp8Only } from './lower-fp8.ts';
import type { LoweringState } from './lowering.ts';
import { elementBytes } from './views.ts';

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
  if (rows > readerRowsMax || state.bucket.hasAdapters || state.parts.activation === 'f32') return false;
  if (first?.node.op !== 'rmsNorm' || state.isOutput(add) || first.node.shape.join() !== add.shape.join())
    return false;
  return width <= quantizeWidthMax && width % (16 / elementBytes(state.parts.activation)) === 0;
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
  const { residual: x, parts, scales: unscaled } = pending;
  const isFp8 = feedsFp8Only(state, node);
  const out = isFp8 ? state.fresh(x.rows, x.width, 'e4m3') : state.result(node);
  const scales = isFp8 ? state.fresh(x.rows, 1, 'f32') : undefined;
  if (scales) state.quantized.set(node.id, { values: out, scales });
  const weight = state.weightView(state.input(node, 1));
  const { vectors, threads } = quantizeVariant(x.rows, x.width);
  state.pushKernel({
    file: 'sum-norm',
    name: 'sumNorm',
    defines: {
      PARTS: parts.rows / x.rows,
      SCALED: unscaled ? 1 : 0,
      FP8: isFp8 ? 1 : 0,
      VECTORS: vectors,
    },
    grid: [x.rows, 1, 1],
    threads,
    touches: [x, parts, out, ...(scales ? [scales] : []), ...(unscaled ? [unscaled.rows] : [])],
    parameters: (at) => [
      at(x),
      at(parts),
      at(unscaled?.rows),
      at(unscaled?.columns),
      at(weight),
      at(out),
      at(scales),
      ...[x.rows, definite(x.width, 'a width'), x.stride, out.stride].map(int),
      float(node.attributes.epsilon),
    ],
  });
  return true;
}
