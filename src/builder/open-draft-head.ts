import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError } from '../checkpoint/errors.ts';
import { readJsonFile } from '../checkpoint/json.ts';
import { openSafetensors } from '../checkpoint/safetensors.ts';
import type { DeviceModelSource, WeightTensor } from '../device/device.ts';
import { eagleArchitecture, eagleBorrowed, eagleHyperparameters, eagleSource } from '../models/eagle.ts';
import { ModelError } from '../models/errors.ts';

/** GGUF's names of the tensors that a head shares with its target. */
const targetNames = { embedding: 'token_embd.weight', output: 'output.weight' } as const;

/** In front of a head's own tensors, beside which the target's have theirs. */
const prefix = 'draftHead.';

/**
 * Opens a draft head, `config.json` and `model.safetensors`, over the engine of its target model, whose embedding and output matrix it shares. Nothing is built: its
 * weights are small, and run as they are stored.
 * @throws CheckpointError, ModelError for files that are no head, or the head of another model
 */
export function openDraftHead(folder: string, target: DeviceModelSource): DeviceModelSource {
  const configPath = join(folder, 'config.json');
  if (!existsSync(configPath)) {
    const problem = `${folder} has no config.json, so it is no draft head`;
    throw new CheckpointError(
      'CHECKPOINT_INCOMPLETE',
      `${problem}; give a folder as models/nereid-16m-eagle`,
    );
  }
  const config = readJsonFile(configPath);
  const names = Array.isArray(config.architectures) ? config.architectures.map(String) : [];
  if (!names.includes(eagleArchitecture)) {
    const problem = `${folder} is of the architecture '${names.join(', ')}'; a draft head is '${eagleArchitecture}'`;
    throw new CheckpointError('CHECKPOINT_FORMAT_UNSUPPORTED', `${problem}; a whole model is --draft-model`);
  }
  const p = eagleHyperparameters(config);
  if (p.width !== target.hiddenWidth || p.vocabularySize !== target.vocabularySize) {
    const own = `${p.width} columns and ${p.vocabularySize} tokens`;
    const others = `${target.hiddenWidth ?? 0} and ${target.vocabularySize}`;
    const problem = `${folder} is the head of a model with ${own}, and the model has ${others}`;
    throw new ModelError('MODEL_WEIGHT_INVALID', `${problem}; give a head that was trained for it`);
  }
  const own = new Map<string, WeightTensor>();
  for (const [name, tensor] of openSafetensors(join(folder, 'model.safetensors')).tensors) {
    own.set(name, { ...tensor, name: `${prefix}${name}` });
  }
  return eagleSource(p, own, borrowedOf(target));
}

/** A tied output matrix is the embedding. */
function borrowedOf({ weights }: DeviceModelSource): Map<string, WeightTensor> {
  const embedding = weights.get(targetNames.embedding);
  const output = weights.get(targetNames.output) ?? embedding;
  if (!embedding || !output) {
    const message = `the model has no tensor '${targetNames.embedding}', which a draft head needs`;
    throw new ModelError('MODEL_WEIGHT_INVALID', `${message}; serve it undivided`);
  }
  return new Map([
    [eagleBorrowed.embedding, embedding],
    [eagleBorrowed.output, output],
  ]);
}
