import { definite } from '../../base/errors.ts';
import type { Tensor } from './handles.ts';
import type { LoweringState, NodeOf } from './lowering-state.ts';
import { dimensionsOf, stridesOf } from './tensor-struct.ts';

const elementBytes = 4;
const rankMax = 4;

/** ggml's dimensions of a shape: innermost first, filled up with ones. */
function ggmlDimensions(shape: readonly number[]): [number, number, number, number] {
  const [n0 = 1, n1 = 1, n2 = 1, n3 = 1] = [...shape].reverse();
  return [n0, n1, n2, n3];
}

/** Whether a float32 tensor's elements follow each other without gaps. */
export function isContiguous(tensor: Tensor): boolean {
  const sizes = dimensionsOf(tensor);
  const strides = stridesOf(tensor);
  let expected = elementBytes;
  for (let index = 0; index < rankMax; index++) {
    const size = definite(sizes[index], 'size');
    if (size !== 1 && strides[index] !== expected) return false;
    expected *= size;
  }
  return true;
}

/** The tensor, copied if its elements have gaps. */
export function contiguous(state: LoweringState, tensor: Tensor): Tensor {
  return isContiguous(tensor) ? tensor : state.ggml.ggml_cont(state.context, tensor);
}

/** A view where the layout allows it (rows with gaps split into heads and back), else of a copy. */
export function lowerReshape(state: LoweringState, node: NodeOf<'reshape'>): Tensor {
  const x = state.input(node, 0);
  const target = ggmlDimensions(node.shape);
  if (!isContiguous(x)) {
    const strides = viewStrides(dimensionsOf(x), stridesOf(x), target);
    if (strides) return state.ggml.ggml_view_4d(state.context, x, ...target, ...strides, 0);
  }
  return state.ggml.ggml_reshape_4d(state.context, contiguous(state, x), ...target);
}

/** Strides of dimensions 1..3 under which `target` walks the same elements in the same order, if there are any. */
export function viewStrides(
  sizes: readonly number[],
  strides: readonly number[],
  target: readonly number[],
): [number, number, number] | undefined {
  if (strides[0] !== elementBytes) return undefined;
  // Runs of memory: adjacent dimensions merge while they leave no gap.
  const runs: { size: number; stride: number }[] = [];
  sizes.forEach((size, index) => {
    if (size === 1) return;
    const stride = definite(strides[index], 'stride');
    const last = runs.at(-1);
    if (last && last.stride * last.size === stride) last.size *= size;
    else runs.push({ size, stride });
  });
  const result: number[] = [];
  let run = runs.shift() ?? { size: 1, stride: elementBytes };
  let left = run.size;
  let stride = run.stride;
  for (const size of target) {
    if (size !== 1 && left === 1) {
      run = runs.shift() ?? { size: 1, stride };
      left = run.size;
      stride = run.stride;
    }
    if (left % size !== 0) return undefined;
    result.push(stride);
    stride *= size;
    left /= size;
  }
  const [, b1, b2, b3] = result;
  return left === 1 && runs.length === 0 ? [b1 ?? 0, b2 ?? 0, b3 ?? 0] : undefined;
}

/** Always a view. */
export function lowerSlice(state: LoweringState, node: NodeOf<'slice'>): Tensor {
  const x = state.input(node, 0);
  const dimension = node.shape.length - 1 - node.attributes.axis;
  const strides = stridesOf(x);
  const offset = node.attributes.start * definite(strides[dimension], 'stride');
  const [, b1, b2, b3] = strides;
  return state.ggml.ggml_view_4d(state.context, x, ...ggmlDimensions(node.shape), b1, b2, b3, offset);
}

/** Pairwise copies: ggml joins two at a time. */
export function lowerConcat(state: LoweringState, node: NodeOf<'concat'>): Tensor {
  const dimension = node.shape.length - 1 - node.attributes.axis;
  let joined = state.input(node, 0);
  for (let index = 1; index < node.inputs.length; index++) {
    joined = state.ggml.ggml_concat(state.context, joined, state.input(node, index), dimension);
  }
  return joined;
}
