import { constants, statSync } from 'node:fs';
import { copyFile, link, realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import { definite } from '../base/errors.ts';
import { type GgufTensor, writeGguf } from '../checkpoint/gguf-writer.ts';
import { elementCount, tensorBytes } from '../checkpoint/tensor-file.ts';
import { isQuantized } from '../graph/dtype.ts';
import type { BuildRecipe } from './config.ts';
import { type ConvertContext, convertTensor } from './convert.ts';
import { chooseDtype, ggufFileType } from './dtype-policy.ts';
import type { EngineSource, MetadataEntry } from './engine-source.ts';
import type { QuantizationException } from './manifest.ts';

/** Version of ggml's block layouts (`GGML_QNT_VERSION`). */
const quantizationVersion = 2;

/** What was decided about the types of an engine's tensors. */
export interface QuantizationPlan {
  tensors: { tensor: EngineSource['tensors'][number]; dtype: GgufTensor['dtype'] }[];
  exceptions: QuantizationException[];
}

/** Chooses every tensor's type. Reads no weights. */
export function planQuantization(source: EngineSource, recipe: BuildRecipe): QuantizationPlan {
  const model = {
    layers: source.layers,
    hasOutput: source.tensors.some(({ name }) => name === 'output.weight'),
  };
  const plan: QuantizationPlan = { tensors: [], exceptions: [] };
  for (const tensor of source.tensors) {
    const { dtype, reason } = chooseDtype(tensor, model, recipe);
    plan.tensors.push({ tensor, dtype });
    if (reason !== undefined) plan.exceptions.push({ tensor: tensor.name, dtype, reason });
  }
  return plan;
}

/**
 * Writes the weights of an engine as one GGUF file, tensor by tensor; rows stream through in blocks.
 * @throws CheckpointError, BuilderError, or what the file system says
 */
export async function writeWeights(
  path: string,
  source: EngineSource,
  plan: QuantizationPlan,
  recipe: BuildRecipe,
  context: ConvertContext,
): Promise<void> {
  const total = plan.tensors.reduce((sum, { tensor }) => sum + storedBytes(tensor), 0);
  context.reporter.start(recipe.dtype === 'auto' ? 'Converting' : `Converting to ${recipe.dtype}`, total);
  const tensors = plan.tensors.map(({ tensor, dtype }) => ({
    name: tensor.name,
    dtype,
    shape: tensor.shape,
    data: () => convertTensor(tensor, dtype, context),
  }));
  try {
    await writeGguf(path, { metadata: [...source.metadata, ...typeMetadata(plan, recipe)], tensors });
  } finally {
    context.reporter.finish();
  }
}

function storedBytes(tensor: EngineSource['tensors'][number]): number {
  return definite(tensorBytes(tensor.dtype, tensor.shape), `the size of ${tensor.name}`);
}

/** `general.file_type` says which type most weights have; other programs show it. */
function typeMetadata(plan: QuantizationPlan, recipe: BuildRecipe): MetadataEntry[] {
  const entries: MetadataEntry[] = [];
  const dtype = recipe.dtype === 'auto' ? mostCommonFloat(plan) : recipe.dtype;
  if (dtype) entries.push(['general.file_type', { type: 'u32', value: ggufFileType(dtype) }]);
  if (plan.tensors.some((row) => isQuantized(row.dtype))) {
    entries.push(['general.quantization_version', { type: 'u32', value: quantizationVersion }]);
  }
  return entries;
}

/** The float type that holds most elements; undefined where a quantized one does. */
function mostCommonFloat(plan: QuantizationPlan): 'f32' | 'f16' | 'bf16' | undefined {
  const elements = new Map<string, number>();
  for (const { tensor, dtype } of plan.tensors) {
    elements.set(dtype, (elements.get(dtype) ?? 0) + elementCount(tensor.shape));
  }
  const [most] = [...elements].sort((a, b) => b[1] - a[1])[0] ?? [];
  return most === 'f32' || most === 'f16' || most === 'bf16' ? most : undefined;
}

/** Puts a file into an engine without copying it where the file system can: a hard link, else a copy (by reference where possible). */
export async function placeFile(source: string, to: string): Promise<void> {
  // A link to a symbolic link would be one itself.
  const from = await realpath(source);
  if (statSync(from).dev === statSync(dirname(to)).dev) {
    const linked = await link(from, to).then(
      () => true,
      () => false,
    );
    if (linked) return;
  }
  await copyFile(from, to, constants.COPYFILE_FICLONE);
}
