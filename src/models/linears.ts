import type { Architecture } from './architecture.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import type { WeightTransform } from './transforms.ts';
import type { TensorSplit } from './weight-map.ts';
import { modelWeights } from './weights.ts';

/** A logical linear of a model, under all the names that its adapters may call it by. */
export interface ModelLinear {
  /** As `linear.parts` of the graphs names it: 'layers.0.attention.q'. */
  name: string;
  /** Module paths in Hugging Face's model: 'model.layers.0.self_attn.q_proj'. */
  hf: readonly string[];
  /** llama.cpp's, without `.weight`: 'blk.0.attn_q'. */
  gguf: string;
  inputs: number;
  outputs: number;
  /** From Hugging Face's rows to the engine's. */
  transform: WeightTransform;
  /** How ranks divide it. */
  split?: TensorSplit;
}

const weightSuffix = '.weight';

/** @param names of the linears that the model's graphs have; what else has a matrix (an embedding) is no linear */
export function modelLinears(
  architecture: Architecture,
  p: Hyperparameters,
  names: ReadonlySet<string>,
): ModelLinear[] {
  return modelWeights(architecture, p).flatMap(({ logical, hf, gguf, shape, transform, split }) => {
    const name = withoutSuffix(logical);
    if (!logical.endsWith(weightSuffix) || !names.has(name)) return [];
    const [outputs = 0, inputs = 0] = shape;
    const linear = { name, hf: hf.map(withoutSuffix), gguf: withoutSuffix(gguf), inputs, outputs, transform };
    return [split ? { ...linear, split } : linear];
  });
}

function withoutSuffix(name: string): string {
  return name.endsWith(weightSuffix) ? name.slice(0, -weightSuffix.length) : name;
}
