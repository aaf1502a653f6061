/** out[t, o] = Σ x[t, i] · weight[o, i] (+ bias[o]), summed in float64. */
export function linear(
  x: Float32Array,
  weight: Float32Array,
  bias: Float32Array | undefined,
  inputs: number,
): Float32Array {
  const outputs = weight.length / inputs;
  const tokens = x.length / inputs;
  const out = new Float32Array(tokens * outputs);
  for (let token = 0; token < tokens; token++) {
    for (let output = 0; output < outputs; output++) {
      let sum = bias ? (bias[output] as number) : 0;
      const xRow = token * inputs;
      const weightRow = output * inputs;
      for (let i = 0; i < inputs; i++) sum += (x[xRow + i] as number) * (weight[weightRow + i] as number);
      out[token * outputs + output] = sum;
    }
  }
  return out;
}

/** Picks rows: an embedding lookup, or the rows whose logits are wanted. */
export function takeRows(table: Float32Array, ids: Int32Array, width: number): Float32Array {
  const out = new Float32Array(ids.length * width);
  ids.forEach((id, row) => {
    out.set(table.subarray(id * width, (id + 1) * width), row * width);
  });
  return out;
}
