import type { Shape } from '../../../graph/graph.ts';
import { elementCount } from '../../../graph/rules.ts';

/** A part of an axis: `outer` blocks of `size · inner` elements. */
function blocks(shape: Shape, axis: number): { outer: number; size: number; inner: number } {
  return {
    outer: elementCount(shape.slice(0, axis)),
    size: shape[axis] ?? 1,
    inner: elementCount(shape.slice(axis + 1)),
  };
}

/** x restricted to [start, end) on `axis`. */
export function slice(x: Float32Array, shape: Shape, axis: number, start: number, end: number): Float32Array {
  const { outer, size, inner } = blocks(shape, axis);
  const length = (end - start) * inner;
  const out = new Float32Array(outer * length);
  for (let block = 0; block < outer; block++) {
    const from = (block * size + start) * inner;
    out.set(x.subarray(from, from + length), block * length);
  }
  return out;
}

/** The inputs joined on `axis`. */
export function concat(
  inputs: readonly { values: Float32Array; shape: Shape }[],
  axis: number,
): Float32Array {
  const total = inputs.reduce((sum, { values }) => sum + values.length, 0);
  const out = new Float32Array(total);
  const outer = elementCount((inputs[0]?.shape ?? []).slice(0, axis));
  let at = 0;
  for (let block = 0; block < outer; block++) {
    for (const { values } of inputs) {
      const length = values.length / outer;
      out.set(values.subarray(block * length, (block + 1) * length), at);
      at += length;
    }
  }
  return out;
}
