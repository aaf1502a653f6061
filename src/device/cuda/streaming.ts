import { definite } from '../../base/errors.ts';
import type { GraphNode } from '../../graph/graph.ts';
import type { LoweringState } from './lowering.ts';

type LinearNode = Extract<GraphNode, { op: 'linear' }>;

/** Rows up to which a product streams the weight through `gemv.cu`. */
export const gemvRowsMax = 4;

/** How `gemv.cu` is compiled and launched for a shape. */
export interface GemvVariant {
  warps: number;
  unroll: number;
  blocksPerMultiprocessor: number;
  minBlocks: number;
}

/** Best for many rows of up to 8,192 elements (bench/cuda-kernels.ts, docs/gpu-log.md). */
const wideVariant: GemvVariant = { warps: 8, unroll: 4, blocksPerMultiprocessor: 3, minBlocks: 3 };
/** Best for long rows. */
const longVariant: GemvVariant = { warps: 8, unroll: 8, blocksPerMultiprocessor: 2, minBlocks: 2 };
/** Best for fewer tiles than the GPU takes at once. */
const smallVariant: GemvVariant = { warps: 16, unroll: 2, blocksPerMultiprocessor: 2, minBlocks: 2 };
/** Best for two matrices at once. */
const gatedVariant: GemvVariant = { warps: 16, unroll: 2, blocksPerMultiprocessor: 1, minBlocks: 1 };
const longInputs = 8192;
const gemvWarpsMax = 16;

/** The variant for a product of so many outputs and inputs. */
export function variantOf(
  outputs: number,
  inputs: number,
  isGated: boolean,
  multiprocessors: number,
): GemvVariant {
  if (isGated) return gatedVariant;
  if (inputs > longInputs) return longVariant;
  return Math.ceil(outputs / 16) <= 2 * multiprocessors ? smallVariant : wideVariant;
}

/** Shared memory of a block of `gemv.cu`. */
export function gemvSharedBytes(rows: number, inputs: number, isGated: boolean, warps: number): number {
  // Rows of x with their padding, and the warps' sums of two tiles.
  return rows * (inputs + 8) * 2 + 2 * (isGated ? 2 : 1) * warps * 128 * 4;
}

/** Whether a product is small enough for the streaming kernel. */
export function streams(state: LoweringState, node: LinearNode): boolean {
  const [rows = 0] = node.shape;
  const inputs = definite(state.input(node, 1).shape[1], 'inputs');
  if (state.parts.activation === 'f32' || rows > gemvRowsMax || inputs % 8 !== 0) return false;
  return gemvSharedBytes(rows, inputs, true, gemvWarpsMax) <= state.parts.gpu.facts.sharedBytesMax - 1024;
}
