import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { definite } from '../base/errors.ts';
import { CheckpointError } from './errors.ts';
import { checkPatternCost, type LoraConfig, rankAndAlpha, readLoraConfig } from './lora-config.ts';
import { openSafetensors } from './safetensors.ts';
import type { StoredTensor } from './tensor-file.ts';

/** The low-rank change of one linear layer: `y += scale * B (A x)`. */
export interface LoraTarget {
  /** Path of the layer in the Hugging Face model: 'model.layers.0.self_attn.q_proj'. */
  module: string;
  rank: number;
  /** alpha / rank, or alpha / sqrt(rank) for rank-stabilised adapters. */
  scale: number;
  /** Shape [rank, inputs]. */
  a: StoredTensor;
  /** Shape [outputs, rank]. */
  b: StoredTensor;
}

/** Whose names an adapter's modules bear: Hugging Face's, llama.cpp's, or the engine's own. */
export type LoraNames = 'huggingFace' | 'gguf' | 'engine';

/** A LoRA adapter; tensors by position. */
export interface LoraAdapter {
  path: string;
  names: LoraNames;
  /** By module. */
  targets: ReadonlyMap<string, LoraTarget>;
}

/** A PEFT adapter, with its config. */
export interface PeftAdapter extends LoraAdapter {
  config: LoraConfig;
}

const weightsName = 'adapter_model.safetensors';

/** What PEFT puts in front of the module path; the adapter's name ('default') stands behind A and B in unprocessed state dicts. */
const tensorName = /^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight$/;

/**
 * Opens a PEFT adapter folder (`adapter_config.json` and `adapter_model.safetensors`).
 * @throws CheckpointError for missing files, shapes that do not fit, and methods other than plain LoRA, by name
 */
export function openLora(folder: string): PeftAdapter {
  const configPath = join(folder, 'adapter_config.json');
  if (!existsSync(configPath)) {
    const problem = `${folder} has no adapter_config.json, so it is no PEFT adapter`;
    throw new CheckpointError(
      'CHECKPOINT_INCOMPLETE',
      `${problem}; give the folder that PEFT's save_pretrained wrote`,
    );
  }
  const config = readLoraConfig(configPath);
  const weightsPath = join(folder, weightsName);
  if (!existsSync(weightsPath)) throw missingWeights(folder);
  const { tensors, foreign } = openSafetensors(weightsPath);
  const [other] = foreign.values();
  if (other) throw tensorError(weightsPath, `'${other.name}' is of type ${other.type}`);
  return { path: folder, names: 'huggingFace', config, targets: pairTensors(weightsPath, config, tensors) };
}

function missingWeights(folder: string): CheckpointError {
  if (existsSync(join(folder, 'adapter_model.bin'))) {
    const problem = `${folder} has adapter_model.bin (pickled), not ${weightsName}`;
    return new CheckpointError(
      'CHECKPOINT_FORMAT_UNSUPPORTED',
      `${problem}; load and save it again with a current PEFT`,
    );
  }
  return new CheckpointError(
    'CHECKPOINT_INCOMPLETE',
    `${folder} has no ${weightsName}; fetch the whole adapter`,
  );
}

function tensorError(path: string, problem: string): CheckpointError {
  return new CheckpointError('LORA_TENSOR_INVALID', `${path}: ${problem}; save the adapter again with PEFT`);
}

function pairTensors(
  path: string,
  config: LoraConfig,
  tensors: ReadonlyMap<string, StoredTensor>,
): Map<string, LoraTarget> {
  const pairs = new Map<string, { A?: StoredTensor; B?: StoredTensor }>();
  for (const tensor of tensors.values()) {
    const match = tensorName.exec(tensor.name);
    if (!match) throw unknownTensor(path, tensor.name);
    const module = definite(match[1], 'module path');
    const pair = pairs.get(module) ?? {};
    pairs.set(module, pair);
    const side = match[2] as 'A' | 'B';
    if (pair[side]) throw tensorError(path, `${module} has two lora_${side}`);
    pair[side] = tensor;
  }
  if (pairs.size === 0) throw tensorError(path, 'it holds no LoRA tensors');
  checkPatternCost(path, config, pairs.keys());
  const targets = new Map<string, LoraTarget>();
  for (const [module, { A, B }] of pairs) {
    if (!A || !B) throw tensorError(path, `${module} has no lora_${A ? 'B' : 'A'}`);
    targets.set(module, target(path, config, module, A, B));
  }
  return targets;
}

function unknownTensor(path: string, name: string): CheckpointError {
  const known: [RegExp, string][] = [
    [/lora_embedding_/, 'LoRA on an embedding'],
    [/lora_magnitude_vector/, 'DoRA'],
    [/lora_[AB].*\.bias$/, 'LoRA with biases'],
    [/modules_to_save/, 'modules_to_save'],
  ];
  const what =
    known.find(([pattern]) => pattern.test(name))?.[1] ?? 'a tensor that is neither lora_A nor lora_B';
  const fix = 'merge the adapter into its base model with PEFT (merge_and_unload) and serve that';
  return new CheckpointError('LORA_UNSUPPORTED', `${path}: '${name}' is ${what}; ${fix}`);
}

function target(
  path: string,
  config: LoraConfig,
  module: string,
  a: StoredTensor,
  b: StoredTensor,
): LoraTarget {
  const { rank, alpha } = rankAndAlpha(config, module);
  const [rankOfA] = a.shape;
  const [, rankOfB] = b.shape;
  const flat = a.shape.length === 2 && b.shape.length === 2;
  if (!flat || rankOfA !== rank || rankOfB !== rank) {
    const shapes = `A of shape [${a.shape}] and B of shape [${b.shape}]`;
    throw tensorError(
      path,
      `${module} has ${shapes}, where rank ${rank} wants [${rank}, inputs] and [outputs, ${rank}]`,
    );
  }
  const scale = alpha / (config.rankStabilised ? Math.sqrt(rank) : rank);
  return { module, rank, scale, a, b };
}
