import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { messageOf } from '../base/errors.ts';
import type { DeviceModelSource, WeightTensor } from '../device/device.ts';
import type { Hyperparameters } from '../models/hyperparameters.ts';
import { hyperparametersOfRank } from '../models/partition.ts';
import type { RankPart } from '../models/rank-part.ts';
import { architectures } from '../models/registry.ts';
import { modelShapes } from '../models/shapes.ts';
import { modelSource } from '../models/source.ts';
import { modelWeights } from '../models/weights.ts';
import { BuilderError } from './errors.ts';
import type { DescribedModel } from './model.ts';

/** What stands in for a weight file: the device makes the weights up from a seed. */
const randomWeights = z.strictObject({
  shape: z.string().max(100),
  seed: z.int().min(0).max(999_999_999),
  dtype: z.enum(['f32', 'f16', 'bf16']),
});

export type RandomWeights = z.output<typeof randomWeights>;

/**
 * The numbers of a shape by name.
 * @throws BuilderError `BUILD_CONFIG_INVALID` listing the known ones
 */
export function shapeOf(name: string): Hyperparameters {
  const shape = Object.hasOwn(modelShapes, name) ? modelShapes[name] : undefined;
  if (shape) return shape;
  const known = Object.keys(modelShapes).join(', ');
  throw new BuilderError('BUILD_CONFIG_INVALID', `no shape is called '${name}': give ${known}`);
}

/**
 * The tensors of a model (or one rank's part of it), none of which lies in a file: equal names have equal values in every rank.
 * @param p of the whole model
 */
export async function randomTensors(
  p: Hyperparameters,
  { seed, dtype }: RandomWeights,
  part?: RankPart,
): Promise<Map<string, WeightTensor>> {
  const architecture = await architectures.load(p.architecture);
  const own = part ? hyperparametersOfRank(p, part) : p;
  const tensors = new Map<string, WeightTensor>();
  for (const { gguf: name, shape, presence } of modelWeights(architecture, own)) {
    // A tied output matrix is the table, unless each rank has its own rows of it.
    const isLeftOut = presence === 'optional' || (presence === 'tied' && p.tiedEmbeddings && !part);
    if (isLeftOut) continue;
    const type = shape.length > 1 ? dtype : 'f32';
    tensors.set(name, { name, dtype: type, shape, path: `random:${seed}`, offset: 0, byteLength: 0 });
  }
  return tensors;
}

/**
 * What a device is given of an engine without weights.
 * @param path of the rank's `rank<N>.json`
 * @throws BuilderError `ENGINE_MANIFEST_INVALID`
 */
export async function randomSource(
  path: string,
  part: RankPart | undefined,
  contextLength: number,
): Promise<DescribedModel & { source: DeviceModelSource }> {
  let weights: RandomWeights;
  try {
    weights = randomWeights.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (cause) {
    const problem = `${path} says no random weights (${messageOf(cause)})`;
    throw new BuilderError('ENGINE_MANIFEST_INVALID', `${problem}: build the engine again`, { cause });
  }
  const p = shapeOf(weights.shape);
  const own = part ? hyperparametersOfRank(p, part) : p;
  const architecture = await architectures.load(p.architecture);
  const source = modelSource(architecture, own, await randomTensors(p, weights, part));
  return {
    source: { ...source, contextLength: Math.min(source.contextLength, contextLength) },
    architecture,
    hyperparameters: p,
  };
}
