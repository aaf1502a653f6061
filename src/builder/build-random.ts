import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageVersion } from '../base/package-version.ts';
import { elementCount } from '../checkpoint/tensor-file.ts';
import { installedGgmlRelease } from '../device/ggml/release.ts';
import { divideModel } from '../models/partition.ts';
import type { BuildRecipe } from './config.ts';
import { hashFiles, tokenizerFolderName, writeManifest } from './engine-folder.ts';
import { BuilderError } from './errors.ts';
import { type EngineManifest, engineFormatVersion } from './manifest.ts';
import { writeAtomically } from './output.ts';
import { type RandomWeights, randomTensors, shapeOf } from './random-source.ts';
import { checkTarget } from './targets.ts';

/** An engine of a shape whose weights the GPU makes up: for benchmarks. */
export interface RandomBuildRequest {
  /** A name in `models/shapes.ts`. */
  shape: string;
  seed: number;
  name: string;
  output: string;
  recipe: BuildRecipe;
  replace?: boolean;
  signal?: AbortSignal;
}

/**
 * Builds an engine folder without weights: a tokenizer of bytes, and for each rank a note of the seed.
 * @throws BuilderError for a shape that is not known, or a target that makes no weights
 */
export async function buildRandomEngine(request: RandomBuildRequest): Promise<{ manifest: EngineManifest }> {
  const { recipe, shape, seed } = request;
  checkTarget(recipe);
  if (recipe.target !== 'cuda') {
    const problem = `random weights are made on a GPU, and ${recipe.target} runs on the CPU`;
    throw new BuilderError('BUILD_CONFIG_INVALID', `${problem}: give --target cuda`);
  }
  const p = shapeOf(shape);
  const dtype = recipe.dtype === 'f32' || recipe.dtype === 'f16' ? recipe.dtype : 'bf16';
  const weights: RandomWeights = { shape, seed, dtype };
  const ranks = recipe.tensorParallel;
  const parts = ranks > 1 ? divideModel(p, { tensor: ranks, pipeline: 1 }) : [];
  const tensors = [...(await randomTensors(p, weights)).values()];
  const files = Array.from({ length: ranks }, (_, rank) => `rank${rank}.json`);
  const manifest = await writeAtomically(request.output, request.replace ?? false, async (folder) => {
    await mkdir(join(folder, tokenizerFolderName));
    await writeFile(join(folder, tokenizerFolderName, 'tokenizer.json'), byteTokenizer(p.vocabularySize));
    for (const file of files) await writeFile(join(folder, file), JSON.stringify(weights));
    request.signal?.throwIfAborted();
    const made: EngineManifest = {
      format: 'nereid-engine',
      formatVersion: engineFormatVersion,
      name: request.name,
      nereidVersion: packageVersion(),
      target: { device: recipe.target, ggmlRelease: installedGgmlRelease() ?? 'unknown' },
      source: { kind: 'random', sha256: createHash('sha256').update(JSON.stringify(weights)).digest('hex') },
      architecture: p.architecture,
      hyperparameters: { ...p },
      contextLength: Math.min(p.contextLength, recipe.contextLengthMax ?? p.contextLength),
      vocabularySize: p.vocabularySize,
      parameters: tensors.reduce((sum, tensor) => sum + elementCount(tensor.shape), 0),
      quantization: {
        tensors: {
          [dtype]: tensors.filter((tensor) => tensor.shape.length > 1).length,
          ...(dtype !== 'f32' && { f32: tensors.filter((tensor) => tensor.shape.length < 2).length }),
        },
        exceptions: [],
      },
      kvDtype: recipe.kvDtype,
      recipe,
      ranks: files,
      ...(parts.length > 0 && { parts }),
      files: await hashFiles(folder, { signal: request.signal }),
    };
    await writeManifest(folder, made);
    return made;
  });
  return { manifest };
}

/** GPT-2's printable stand-ins for the 256 bytes, then words that stand for nothing. */
function byteTokenizer(vocabularySize: number): string {
  const isPrintable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  const bytes = 256;
  let next = bytes;
  const vocabulary: Record<string, number> = {};
  for (let byte = 0; byte < bytes; byte++)
    vocabulary[String.fromCodePoint(isPrintable(byte) ? byte : next++)] = byte;
  for (let id = bytes; id < vocabularySize; id++) vocabulary[`Ġword${id}`] = id;
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };
  return JSON.stringify({
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: level,
    post_processor: null,
    decoder: level,
    model: { type: 'BPE', vocab: vocabulary, merges: [] },
  });
}
