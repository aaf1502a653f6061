import { CheckpointError } from './errors.ts';
import { openGguf } from './gguf-reader.ts';
import type { LoraAdapter, LoraTarget } from './lora.ts';
import type { StoredTensor } from './tensor-file.ts';

const tensorName = /^(.+)\.weight\.lora_([ab])$/;

/**
 * Opens a LoRA adapter that llama.cpp's `convert_lora_to_gguf.py` wrote. Its rows are in GGUF's order already.
 * @throws CheckpointError for other GGUF files, and for tensors that are no pair
 */
export function openLoraGguf(path: string): LoraAdapter {
  const { metadata, tensors } = openGguf(path);
  const text = (key: string) => metadata.get(key)?.value;
  if (text('general.type') !== 'adapter' || text('adapter.type') !== 'lora') {
    throw invalid(path, `it is of type '${String(text('general.type') ?? 'model')}', not a LoRA adapter`);
  }
  const alpha = Number(text('adapter.lora.alpha'));
  if (!Number.isFinite(alpha)) throw invalid(path, 'it says no adapter.lora.alpha');
  const pairs = new Map<string, { a?: StoredTensor; b?: StoredTensor }>();
  for (const tensor of tensors.values()) {
    const [, module, side] = tensorName.exec(tensor.name) ?? [];
    if (!module || (side !== 'a' && side !== 'b')) {
      const problem = `${path}: '${tensor.name}' is a tensor that is neither lora_a nor lora_b`;
      throw new CheckpointError('LORA_UNSUPPORTED', `${problem}; merge the adapter into its base model`);
    }
    pairs.set(module, { ...pairs.get(module), [side]: tensor });
  }
  const targets = new Map<string, LoraTarget>();
  for (const [module, pair] of pairs) targets.set(module, target(path, module, pair, alpha));
  if (targets.size === 0) throw invalid(path, 'it holds no LoRA tensors');
  return { path, names: 'gguf', targets };
}

function target(
  path: string,
  module: string,
  { a, b }: { a?: StoredTensor; b?: StoredTensor },
  alpha: number,
): LoraTarget {
  if (!a || !b) throw invalid(path, `${module} has no lora_${a ? 'b' : 'a'}`);
  const [rank = 0] = a.shape;
  if (a.shape.length !== 2 || b.shape.length !== 2 || rank < 1 || b.shape[1] !== rank) {
    const shapes = `A of shape [${a.shape}] and B of shape [${b.shape}]`;
    throw invalid(path, `${module} has ${shapes}, where [rank, inputs] and [outputs, rank] are expected`);
  }
  // As llama.cpp: no alpha is a scale of 1.
  return { module, rank, scale: alpha === 0 ? 1 : alpha / rank, a, b };
}

function invalid(path: string, problem: string): CheckpointError {
  return new CheckpointError(
    'LORA_TENSOR_INVALID',
    `${path}: ${problem}; convert it again with convert_lora_to_gguf.py`,
  );
}
