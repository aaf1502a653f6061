import { assert, definite } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import type { DevicePointer } from './driver.ts';
import { int, pointer } from './launch.ts';
import { type LoweringState, unsupported } from './lowering.ts';
import { elementBytes, type View } from './views.ts';

type LinearNode = Extract<GraphNode, { op: 'linear' }>;

/** As in `adapter.cu`. */
const partsMax = 4;
const threads = 256;
const rowsPerBlockMax = 4;
/** Shared memory that a block's rows of x may take, so that two fit a multiprocessor. */
const sharedBytesMax = 112 * 1024;

/** By node: how often its rows were picked: all of the batch, then the wanted ones, of those the ones that get logits. */
function picksOf(state: LoweringState): readonly number[] {
  const picks: number[] = [];
  for (const node of state.fused.graph.nodes) {
    const before = Math.max(0, ...node.inputs.map((id) => picks[id] ?? 0));
    picks.push(node.op === 'rows' ? before + 1 : before);
  }
  return picks;
}

const picksBy = new WeakMap<LoweringState, readonly number[]>();

/** The batch row of each of a node's rows; 0 where they are the same. */
function batchRowsOf(state: LoweringState, node: GraphNode): DevicePointer {
  const known = picksBy.get(state) ?? picksOf(state);
  picksBy.set(state, known);
  return [0, state.step.outputRows, state.step.logitBatchRows][known[node.id] ?? 0] ?? 0;
}

/** Adds to y = x · weight' what the rows' adapters change, in a program of steps that have some. */
export function pushAdapters(state: LoweringState, node: LinearNode, x: View, y: View): void {
  const { adapters } = state.parts;
  if (!state.bucket.hasAdapters) return;
  const pool = definite(adapters, 'room for adapters');
  const { parts } = node.attributes;
  if (parts.length > partsMax) unsupported(`adapters of ${parts.length} linears in one`);
  const inputs = x.width;
  const rowBytes = inputs * elementBytes(x.type);
  const perBlock = Math.max(1, Math.min(rowsPerBlockMax, Math.floor(sharedBytesMax / rowBytes)));
  const low = state.fresh(x.rows, parts.length * pool.rankMax, 'f32');
  const outputs = parts.reduce((sum, { rows }) => sum + rows, 0);
  assert(y.rows === x.rows && y.width === outputs, 'a linear of these parts');
  let end = 0;
  const places = Array.from({ length: partsMax }, (_, index) => {
    const part = parts[index];
    end += part?.rows ?? 0;
    const place = part && pool.placeOf(part.name);
    return [place?.linear ?? 0, end, place?.aOffset ?? 0, place?.bOffset ?? 0];
  });
  const { step } = state;
  const request = {
    file: 'adapter',
    defines: { ROWS: perBlock, OUT_FLOAT: y.type === 'f32' ? 1 : 0 },
    threads,
    touches: [x, y, low],
    parameters: (at: (view: View) => { readonly pointer: number }) => [
      ...[at(x), at(y), at(low)],
      pointer(step.adapters),
      pointer(batchRowsOf(state, node)),
      ...[pointer(pool.ranks), pointer(pool.pages)],
      ...[x.rows, inputs, x.stride, y.stride, pool.linears, pool.pagesMax, pool.rankMax, parts.length].map(
        int,
      ),
      ...places.flat().map(int),
    ],
  };
  const rowBlocks = Math.ceil(x.rows / perBlock);
  const sharedBytes = perBlock * rowBytes;
  state.pushKernel({ ...request, name: 'shrink', grid: [rowBlocks, parts.length, 1], sharedBytes });
  state.pushKernel({ ...request, name: 'expand', grid: [Math.ceil(outputs / threads), rowBlocks, 1] });
}
