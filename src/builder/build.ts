import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { definite } from '../base/errors.ts';
import { packageVersion } from '../base/package-version.ts';
import type { GgufFile } from '../checkpoint/gguf-reader.ts';
import { openGguf } from '../checkpoint/gguf-reader.ts';
import { type Checkpoint, openCheckpoint } from '../checkpoint/open.ts';
import { elementCount } from '../checkpoint/tensor-file.ts';
import { packageFolder } from '../device/ggml/library.ts';
import { openQuantizer } from '../device/ggml/quantize.ts';
import { installedGgmlRelease } from '../device/ggml/release.ts';
import { isQuantized } from '../graph/dtype.ts';
import type { Hyperparameters } from '../models/hyperparameters.ts';
import type { RankPart } from '../models/rank-part.ts';
import type { TokenizerFiles } from '../tokenizer/json-tokenizer.ts';
import type { BuildRecipe } from './config.ts';
import { type ContentHash, contentHash } from './content-hash.ts';
import { hashFiles, tokenizerFolderName, writeManifest } from './engine-folder.ts';
import { type EngineSource, ggufSource } from './engine-source.ts';
import { huggingFaceSource } from './hugging-face-source.ts';
import { type EngineManifest, engineFormatVersion } from './manifest.ts';
import { type DescribedModel, modelOfGguf, modelOfHuggingFace } from './model.ts';
import { writeAtomically } from './output.ts';
import { type Reporter, silentReporter } from './reporter.ts';
import { partsOf, planOfRank } from './shard.ts';
import { checkTarget } from './targets.ts';
import { placeFile, planQuantization, type QuantizationPlan, writeWeights } from './write-weights.ts';

const weightsFileName = (rank: number): string => `rank${rank}.gguf`;

/** One build: from which files, by which recipe, to which folder. */
export interface BuildRequest {
  /** A `.gguf` file or a Hugging Face folder. */
  source: string;
  /** What the engine calls itself. */
  name: string;
  /** The engine folder to make. */
  output: string;
  recipe: BuildRecipe;
  /** Replace an engine that is there. */
  replace?: boolean;
  /** The source's hash, where the caller has it. */
  hash?: ContentHash;
  reporter?: Reporter;
  signal?: AbortSignal;
  /** Threads for quantization; default all. */
  threads?: number;
}

/**
 * Builds an engine folder, all or nothing.
 * @throws CheckpointError, BuilderError, TokenizerError, UnknownNameError (architecture) — each with the fix
 */
export async function buildEngine(request: BuildRequest): Promise<{ manifest: EngineManifest }> {
  checkTarget(request.recipe);
  const checkpoint = openCheckpoint(request.source);
  // Before anything is written: a model that no device could run, or that cannot be divided so, is refused at once.
  const { source, model } = await engineSource(checkpoint, request.name);
  const reporter = request.reporter ?? silentReporter;
  for (const note of source.notes) reporter.note(note);
  const plan = planQuantization(source, request.recipe);
  const again = plan.tensors.filter(
    ({ tensor, dtype }) => isQuantized(tensor.dtype) && dtype !== tensor.dtype,
  );
  if (again.length > 0)
    reporter.note(`${again.length} tensors were quantized before: the original would lose less`);
  const shards = shardPlans(model, plan, request.recipe);
  const hash = request.hash ?? (await contentHash(checkpoint));
  const manifest = await writeAtomically(request.output, request.replace ?? false, async (folder) => {
    const known = await writeFiles(folder, checkpoint, source, shards, { ...request, hash, reporter });
    request.signal?.throwIfAborted();
    const built = { model, plan, shards };
    const manifest = await describeEngine(folder, checkpoint, built, { ...request, hash }, known);
    await writeManifest(folder, manifest);
    return manifest;
  });
  return { manifest };
}

async function engineSource(
  checkpoint: Checkpoint,
  name: string,
): Promise<{ source: EngineSource; model: DescribedModel }> {
  if (checkpoint.kind !== 'gguf') {
    const source = await huggingFaceSource(checkpoint, name);
    return { source, model: await modelOfHuggingFace(checkpoint) };
  }
  return { model: await modelOfGguf(checkpoint), source: ggufSource(checkpoint) };
}

/** One weight file's contents. */
interface Shard {
  path: string;
  plan: QuantizationPlan;
  /** What the rank holds; absent where one rank holds everything. */
  part?: RankPart;
}

function shardPlans(model: DescribedModel, plan: QuantizationPlan, recipe: BuildRecipe): Shard[] {
  const parallelism = { tensor: recipe.tensorParallel, pipeline: recipe.pipelineParallel };
  if (parallelism.tensor * parallelism.pipeline === 1) return [{ path: weightsFileName(0), plan }];
  return partsOf(model, parallelism, plan).map((part) => ({
    path: weightsFileName(part.rank),
    plan: planOfRank(model, part, plan),
    part,
  }));
}

type Settled = BuildRequest & { hash: ContentHash; reporter: Reporter };

/** @returns hashes that need not be computed again, by path in the engine */
async function writeFiles(
  folder: string,
  checkpoint: Checkpoint,
  source: EngineSource,
  shards: readonly Shard[],
  request: Settled,
): Promise<Map<string, string>> {
  await writeTokenizer(join(folder, tokenizerFolderName), source.tokenizer);
  const [only] = shards;
  if (only && shards.length === 1 && isReady(checkpoint, only.plan)) {
    await placeFile(checkpoint.path, join(folder, only.path));
    return new Map([[only.path, request.hash.sha256]]);
  }
  const { reporter, recipe, signal } = request;
  const quantizer = openQuantizer(packageFolder(), request.threads ?? availableParallelism());
  for (const { path, plan } of shards) {
    await writeWeights(join(folder, path), source, plan, recipe, { quantizer, reporter, signal });
  }
  return new Map();
}

/** Whether a checkpoint's own file serves as the engine's weights: one GGUF file with every tensor as it should be. */
function isReady(checkpoint: Checkpoint, plan: QuantizationPlan): checkpoint is GgufFile {
  const unchanged = plan.tensors.every(({ tensor, dtype }) => tensor.dtype === dtype);
  return checkpoint.kind === 'gguf' && checkpoint.files.length === 1 && unchanged;
}

async function writeTokenizer(folder: string, files: TokenizerFiles): Promise<void> {
  await mkdir(folder);
  for (const [name, text] of Object.entries(files)) {
    if (text !== undefined) await writeFile(join(folder, name), text);
  }
}

/** The whole model's numbers, read back from the weights themselves; every rank's tensors are checked against its part of them. */
async function writtenHyperparameters(folder: string, shards: readonly Shard[]): Promise<Hyperparameters> {
  let whole: Hyperparameters | undefined;
  for (const { path, part } of shards) {
    const described = await modelOfGguf(openGguf(join(folder, path)), part);
    whole ??= described.hyperparameters;
  }
  return definite(whole, 'a weight file');
}

/** The manifest of what was written. */
async function describeEngine(
  folder: string,
  checkpoint: Checkpoint,
  { model, plan, shards }: { model: DescribedModel; plan: QuantizationPlan; shards: readonly Shard[] },
  request: BuildRequest & { hash: ContentHash },
  known: ReadonlyMap<string, string>,
): Promise<EngineManifest> {
  const hyperparameters = await writtenHyperparameters(folder, shards);
  const { contextLength } = hyperparameters;
  const { recipe } = request;
  const parts = shards.flatMap(({ part }) => (part ? [part] : []));
  return {
    format: 'nereid-engine',
    formatVersion: engineFormatVersion,
    name: request.name,
    nereidVersion: packageVersion(),
    target: { device: recipe.target, ggmlRelease: installedGgmlRelease() ?? 'unknown' },
    source: { kind: checkpoint.kind, sha256: request.hash.sha256 },
    architecture: model.architecture.name,
    hyperparameters: { ...hyperparameters },
    contextLength: Math.min(contextLength, recipe.contextLengthMax ?? contextLength),
    vocabularySize: hyperparameters.vocabularySize,
    parameters: plan.tensors.reduce((sum, { tensor }) => sum + elementCount(tensor.shape), 0),
    quantization: { tensors: countTypes(plan), exceptions: plan.exceptions },
    kvDtype: recipe.kvDtype,
    recipe,
    ranks: shards.map(({ path }) => path),
    ...(parts.length > 0 && { parts }),
    files: await hashFiles(folder, { known, signal: request.signal }),
  };
}

function countTypes(plan: QuantizationPlan): Record<string, number> {
  const counts = new Map<string, number>();
  for (const { dtype } of plan.tensors) counts.set(dtype, (counts.get(dtype) ?? 0) + 1);
  return Object.fromEntries([...counts].sort((a, b) => b[1] - a[1]));
}
