import type { GgufFile } from '../checkpoint/gguf-reader.ts';
import type { HuggingFaceFolder } from '../checkpoint/hugging-face.ts';
import type { StoredTensor } from '../checkpoint/tensor-file.ts';
import type { Architecture } from '../models/architecture.ts';
import type { Hyperparameters } from '../models/hyperparameters.ts';
import { hyperparametersOfRank } from '../models/partition.ts';
import type { RankPart } from '../models/rank-part.ts';
import { architectureOfConfig, architectureOfGguf } from '../models/registry.ts';
import { type ModelSource, modelSource } from '../models/source.ts';
import { checkLayerCount, checkWidths, layerFieldsOf } from './plausible.ts';

/** A model's architecture with its numbers. */
export interface DescribedModel {
  architecture: Architecture;
  hyperparameters: Hyperparameters;
}

/** @throws UnknownNameError listing the known classes; ModelError naming the field of config.json */
export async function modelOfHuggingFace(folder: HuggingFaceFolder): Promise<DescribedModel> {
  const architecture = await architectureOfConfig(folder.config);
  checkLayerCount(layerFieldsOf(folder.config), folder.tensors);
  const hyperparameters = architecture.hyperparameters(folder.config);
  checkWidths(hyperparameters, folder.tensors);
  return { architecture, hyperparameters };
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
  if (!part) checkLayerCount(blockCounts(gguf), gguf.tensors);
  const hyperparameters = architecture.hyperparametersFromGguf(gguf);
  const own = part ? hyperparametersOfRank(hyperparameters, part) : hyperparameters;
  return { architecture, hyperparameters, source: modelSource(architecture, own, gguf.tensors) };
}

/** The layers that a GGUF file says it has, by key. */
function blockCounts(gguf: GgufFile): Record<string, unknown> {
  const counts = [...gguf.metadata].filter(([key]) => key.endsWith('.block_count'));
  return Object.fromEntries(counts.map(([key, { value }]) => [key, Number(value)]));
}
