import { definite } from '../base/errors.ts';
import type { Shape } from '../graph/graph.ts';
import { sameShape } from '../graph/rules.ts';
import type { Architecture } from './architecture.ts';
import { ModelError } from './errors.ts';
import type { StoredWeight } from './graph-weights.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import { isFirstStage, isLastStage, stageLayers } from './parallel.ts';
import { transformedShape, type WeightTransform } from './transforms.ts';
import type { TensorSplit, WeightRow } from './weight-map.ts';

/** A row of the weight map, made concrete for one model and layer. */
export interface ModelWeight {
  logical: string;
  /** Hugging Face's names to try in order; empty for computed tensors. */
  hf: readonly string[];
  gguf: string;
  /** In the engine. */
  shape: Shape;
  /** In the Hugging Face checkpoint. */
  hfShape: Shape;
  transform: WeightTransform;
  presence: 'required' | 'optional' | 'tied';
  split?: TensorSplit;
  /** Values of a tensor that is computed from hyperparameters. */
  values?: Float32Array;
}

/** Every tensor that a model of these hyperparameters (or one rank's part of it) has or may have, layer by layer. */
export function modelWeights(architecture: Architecture, p: Hyperparameters): ModelWeight[] {
  return architecture.weights.flatMap((row) => {
    if (row.logical.includes('{i}'))
      return stageLayers(p).map((layer) => expand(architecture, row, p, layer));
    const isElsewhere =
      (row.stage === 'first' && !isFirstStage(p)) || (row.stage === 'last' && !isLastStage(p));
    return isElsewhere ? [] : [expand(architecture, row, p, 0)];
  });
}

function expand(architecture: Architecture, row: WeightRow, p: Hyperparameters, layer: number): ModelWeight {
  const at = (name: string) => name.replaceAll('{i}', String(layer));
  const shape = row.shape(p);
  const transform = transformOf(row, p);
  const values = row.compute?.(p);
  return {
    logical: at(row.logical),
    hf: row.hf === undefined ? [] : hfNames(at(row.hf), architecture.hfPrefix),
    gguf: at(row.gguf),
    shape,
    // Each transform's shape is its own inverse.
    hfShape: transformedShape(transform, shape),
    transform,
    presence: row.presence ?? 'required',
    ...(row.split && { split: row.split }),
    ...(values && { values }),
  };
}

function hfNames(name: string, prefix: string): string[] {
  return name.startsWith(prefix) && prefix !== '' ? [name, name.slice(prefix.length)] : [name];
}

function transformOf(row: WeightRow, p: Hyperparameters): WeightTransform {
  if (row.transform === 'ropePermutation') {
    return { kind: 'ropePermutation', heads: definite(row.heads, `heads of ${row.logical}`)(p) };
  }
  return { kind: row.transform ?? 'none' };
}

/**
 * Finds the tensors of an engine (GGUF names) that a model's graphs use, by logical name.
 * @throws ModelError naming the tensor that is missing or has the wrong shape
 */
export function bindWeights(
  architecture: Architecture,
  p: Hyperparameters,
  tensors: ReadonlyMap<string, StoredWeight>,
): Map<string, StoredWeight> {
  const bound = new Map<string, StoredWeight>();
  for (const weight of modelWeights(architecture, p)) {
    const name = !tensors.has(weight.gguf) && weight.presence === 'tied' ? embeddingName : weight.gguf;
    const tensor = tensors.get(name);
    if (tensor) bound.set(weight.logical, checkShape(tensor, weight.shape));
    else if (weight.presence !== 'optional') throw missing(weight, architecture, tensors);
  }
  return bound;
}

/** llama.cpp's name of the embedding table, to which `tied` rows fall back. */
const embeddingName = 'token_embd.weight';

function checkShape(tensor: StoredWeight, shape: Shape): StoredWeight {
  if (sameShape(tensor.shape, shape)) return tensor;
  const problem = `tensor '${tensor.name}' has shape [${tensor.shape.join(', ')}], expected [${shape.join(', ')}]`;
  throw new ModelError(
    'MODEL_WEIGHT_INVALID',
    `${problem}; these weights do not belong to this configuration`,
  );
}

function missing(
  weight: ModelWeight,
  architecture: Architecture,
  tensors: ReadonlyMap<string, StoredWeight>,
): ModelError {
  const problem = `tensor '${weight.gguf}' is missing among ${tensors.size} tensors of this ${architecture.name} model`;
  return new ModelError(
    'MODEL_WEIGHT_MISSING',
    `${problem}; the file is incomplete or of another architecture`,
  );
}
