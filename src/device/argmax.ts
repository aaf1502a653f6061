/**
 * Where the largest of `values[start, start + width)` lies, the first of equal ones (every device breaks ties so); −1 when there is
 * none that is finite: every token is banned, or the model made NaN or infinity. NaN among finite ones counts as impossible.
 */
export function argmax(values: Float32Array, start: number, width: number): number {
  const end = start + width;
  const unrolledEnd = end - 3;
  // Four maxima that do not wait for each other: twice as fast as one.
  let a = Number.NEGATIVE_INFINITY;
  let b = a;
  let c = a;
  let d = a;
  let position = start;
  for (; position < unrolledEnd; position += 4) {
    const first = values[position] as number;
    const second = values[position + 1] as number;
    const third = values[position + 2] as number;
    const fourth = values[position + 3] as number;
    if (first > a) a = first;
    if (second > b) b = second;
    if (third > c) c = third;
    if (fourth > d) d = fourth;
  }
  for (; position < end; position++) {
    const value = values[position] as number;
    if (value > a) a = value;
  }
  const max = Math.max(a, b, c, d);
  return Number.isFinite(max) ? values.indexOf(max, start) : -1;
}
