import { type DType, dtypes, isQuantized } from '../graph/dtype.ts';
import type { BuildDtype, BuildRecipe, modelDtypes } from './config.ts';

/** A tensor as the policy sees it: GGUF name, row-major shape, and the type it has in the checkpoint. */
export interface TensorFacts {
  name: string;
  shape: readonly number[];
  dtype: DType;
}

/** What the policy must know of the whole model. */
export interface ModelFacts {
  layers: number;
  /** The output projection is a tensor of its own; else the token embedding serves as both. */
  hasOutput: boolean;
}

/** The type that a tensor gets, with the reason where it is not the type asked for. */
export interface DtypeChoice {
  dtype: DType;
  reason?: string;
}

/** Tensors that stay in float32 whatever their rank: they are small, and added or compared rather than multiplied (as in llama.cpp). */
const alwaysFloat = [
  /(^|\.)position_embd\.weight$/,
  /(^|\.)token_types\.weight$/,
  /_norm\.weight$/,
  /ffn_gate_inp/,
];

/** What a type becomes where rows are no whole number of its blocks; the chain ends at f16 (llama.cpp's order). */
const narrower: Partial<Record<DType, DType>> = { q4_k: 'q5_0', q6_k: 'q8_0' };

/**
 * The stored type of a tensor under a recipe. Follows llama.cpp's `llama_model_quantize` (Q4_K_M for q4_k), so that a model built
 * here has the precision that people expect of the name.
 */
export function chooseDtype(tensor: TensorFacts, model: ModelFacts, recipe: BuildRecipe): DtypeChoice {
  const rule = recipe.tensors.find((candidate) => matches(candidate.pattern, tensor.name));
  if (rule)
    return fit(rule.dtype, tensor, tensor.dtype === rule.dtype ? undefined : `override '${rule.pattern}'`);
  if (isSmall(tensor)) return { dtype: isQuantized(tensor.dtype) ? tensor.dtype : 'f32' };
  if (recipe.dtype === 'auto') return { dtype: tensor.dtype === 'f64' ? 'f32' : tensor.dtype };
  const wanted = wantedDtype(tensor.name, model, storedDtype(recipe.dtype), tensor.shape.at(-1) ?? 1);
  return fit(wanted.dtype, tensor, wanted.reason);
}

/** Biases, norms, scales and tables that gain nothing from fewer bits. */
function isSmall(tensor: TensorFacts): boolean {
  return (
    tensor.shape.length < 2 ||
    !tensor.name.endsWith('weight') ||
    alwaysFloat.some((pattern) => pattern.test(tensor.name))
  );
}

/** The type by the tensor's role, before its row length is looked at. */
function wantedDtype(name: string, model: ModelFacts, dtype: BuildDtype, rowElements: number): DtypeChoice {
  if (dtype !== 'q4_0' && dtype !== 'q4_k' && dtype !== 'q6_k') return { dtype };
  const isOutput = name === 'output.weight' || (!model.hasOutput && name === 'token_embd.weight');
  if (isOutput) {
    const block = dtypes.q6_k.blockElements;
    const output = rowElements % block === 0 ? 'q6_k' : 'q8_0';
    return output === dtype ? { dtype } : { dtype: output, reason: 'output projection keeps more bits' };
  }
  if (dtype !== 'q4_k') return { dtype };
  const layer = Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1);
  const sensitive = name.endsWith('.attn_v.weight') || name.endsWith('.ffn_down.weight');
  if (sensitive && usesMoreBits(layer, model.layers)) {
    return { dtype: 'q6_k', reason: 'sensitive layer keeps more bits (Q4_K_M)' };
  }
  return { dtype };
}

/** The layers that llama.cpp's Q4_K_M gives more bits: the first and last eighth, and every third between. */
function usesMoreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}

/** Falls back along {@link narrower} until the rows are a whole number of blocks. */
function fit(wanted: DType, tensor: TensorFacts, reason?: string): DtypeChoice {
  const rowElements = tensor.shape.at(-1) ?? 1;
  let dtype = wanted;
  while (rowElements % dtypes[dtype].blockElements !== 0) dtype = narrower[dtype] ?? 'f16';
  if (dtype === wanted) return { dtype, reason };
  const block = dtypes[wanted].blockElements;
  return { dtype, reason: `rows of ${rowElements} are no multiple of ${wanted}'s block of ${block}` };
}

/** Whether a GGUF name matches a pattern in which `*` stands for anything. */
export function matches(pattern: string, name: string): boolean {
  const parts = pattern.split('*');
  const first = parts[0] ?? '';
  const last = parts.at(-1) ?? '';
  if (parts.length === 1) return pattern === name;
  if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length)
    return false;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= name.length - last.length;
}

/** What weights lie in the engine as: 8-bit floats are made of bf16 where they are loaded. */
function storedDtype(dtype: (typeof modelDtypes)[number]): BuildDtype {
  return dtype === 'fp8' ? 'bf16' : dtype;
}

/** ggml's `general.file_type` of a recipe, which other programs show as the model's type (`enum llama_ftype`). */
export function ggufFileType(dtype: (typeof modelDtypes)[number]): number {
  return { f32: 0, f16: 1, q4_0: 2, q8_0: 7, q4_k: 15, q6_k: 18, bf16: 32 }[storedDtype(dtype)];
}
