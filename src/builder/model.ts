import type { GgufFile } from '../checkpoint/gguf-reader.ts';
import type { HuggingFaceFolder } from '../checkpoint/hugging-face.ts';
import type { StoredTensor } from '../checkpoint/tensor-file.ts';
import type { Architecture } from '../models/architecture.ts';
import type { Hyperparameters } from '../models/hyperparameters.ts';
import { hyperparametersOfRank } from '../models/partition.ts';
import type { RankPart } from '../models/rank-part.ts';
import { architectureOfConfig, architectureOfGguf } from '../models/registry.ts';
import { type ModelSource, modelSource } from '../models/source.ts';

/** A model's architecture with its numbers. */
export interface DescribedModel {
  architecture: Architecture;
  hyperparameters: Hyperparameters;
}

/** @throws UnknownNameError listing the known classes; ModelError naming the field of config.json */
export async function modelOfHuggingFace(folder: HuggingFaceFolder): Promise<DescribedModel> {
  const architecture = await architectureOfConfig(folder.config);
  return { architecture, hyperparameters: architecture.hyperparameters(folder.config) };
}

/**
 * The model in a GGUF file, its weights bound and their shapes checked.
 * @param part what the file holds, where the model is divided among ranks; the numbers returned are the whole model's all the same
 * @throws UnknownNameError listing the known architectures; ModelError naming the key or tensor
 */
export async function modelOfGguf(
  gguf: GgufFile,
  part?: RankPart,
): Promise<DescribedModel & { source: ModelSource<StoredTensor> }> {
  const architecture = await architectureOfGguf(gguf);
  const hyperparameters = architecture.hyperparametersFromGguf(gguf);
  const own = part ? hyperparametersOfRank(hyperparameters, part) : hyperparameters;
  return { architecture, hyperparameters, source: modelSource(architecture, own, gguf.tensors) };
}
