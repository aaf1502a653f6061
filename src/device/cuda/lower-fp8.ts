import { definite } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import { rowLength } from '../../graph/rules.ts';
import { quantizeModes, quantizeVariant, quantizeWidthMax } from './fp8.ts';
import { float, int } from './launch.ts';
import type { LoweringState, QuantizedRows, Unscaled } from './lowering.ts';
import { streams } from './streaming.ts';
import type { View } from './views.ts';

/** Whether a linear is an 8-bit product of cuBLASLt's: its input is wanted as e4m3. */
export function isFp8Product(state: LoweringState, node: GraphNode): boolean {
  if (node.op !== 'linear') return false;
  return state.weightType(state.input(node, 1)) === 'e4m3' && !streams(state, node);
}

/** Whether nobody wants a value but 8-bit products, as their input. */
export function feedsFp8Only(state: LoweringState, node: GraphNode): boolean {
  const readers = state.readersOf(node);
  const isWanted = readers.length > 0 && !state.isOutput(node) && node.shape.length === 2;
  return isWanted && readers.every(({ node: reader, index }) => index === 0 && isFp8Product(state, reader));
}

interface Quantizing {
  mode: keyof typeof quantizeModes;
  weight?: View;
  epsilon?: number;
  unscaled?: Unscaled | undefined;
}

function pushQuantize(
  state: LoweringState,
  x: View,
  width: number,
  { mode, weight, epsilon = 0, unscaled }: Quantizing,
): QuantizedRows {
  const values = state.fresh(x.rows, width, 'e4m3');
  const scales = state.fresh(x.rows, 1, 'f32');
  const { vectors, threads } = quantizeVariant(x.rows, width);
  state.pushKernel({
    file: 'quantize',
    name: 'quantize',
    label: `quantize ${mode}`,
    defines: { MODE: quantizeModes[mode], VECTORS: vectors, SCALED: unscaled ? 1 : 0 },
    grid: [x.rows, 1, 1],
    threads,
    touches: [x, values, scales, ...(unscaled ? [unscaled.rows] : [])],
    parameters: (at) => [
      at(x),
      at(weight),
      at(values),
      at(scales),
      int(width),
      int(x.stride),
      float(epsilon),
      ...(unscaled ? [at(unscaled.rows), at(unscaled.columns)] : []),
    ],
  });
  return { values, scales };
}

/** The input of an 8-bit product as e4m3: made once for all that read it. */
export function quantizedInput(state: LoweringState, node: GraphNode): QuantizedRows {
  const known = state.quantized.get(node.id);
  if (known) return known;
  const x = state.view(node);
  const rows = pushQuantize(state, x, x.width, { mode: 'plain' });
  state.quantized.set(node.id, rows);
  return rows;
}

/** An RMSNorm whose result is wanted as e4m3 only. @returns whether it was one */
export function quantizeNorm(state: LoweringState, node: Extract<GraphNode, { op: 'rmsNorm' }>): boolean {
  const width = rowLength(node.shape);
  if (state.bucket.hasAdapters || !feedsFp8Only(state, node) || width > quantizeWidthMax) return false;
  const weight = state.weightView(state.input(node, 1));
  const { epsilon } = node.attributes;
  const x = state.viewOf(node, 0);
  state.quantized.set(node.id, pushQuantize(state, x, width, { mode: 'rmsNorm', weight, epsilon }));
  return true;
}

/** silu(gate) · up of one product's halves whose result is wanted as e4m3 only. @returns whether it was one */
export function quantizeGated(state: LoweringState, node: GraphNode): boolean {
  if (node.op !== 'swiglu' || state.bucket.hasAdapters || !feedsFp8Only(state, node)) return false;
  const gate = state.viewOf(node, 0);
  const up = state.viewOf(node, 1);
  const isOne =
    gate.region === up.region && gate.stride === up.stride && up.offset === gate.offset + gate.width;
  const width = definite(node.shape[1], 'a width');
  if (!isOne || gate.width !== width || width > quantizeWidthMax) return false;
  const slice = state.input(node, 0);
  const unscaled = slice.op === 'slice' ? state.unscaled.get(state.input(slice, 0).id) : undefined;
  state.quantized.set(node.id, pushQuantize(state, gate, width, { mode: 'swiglu', unscaled }));
  return true;
}
