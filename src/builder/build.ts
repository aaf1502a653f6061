import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { packageVersion } from '../base/package-version.ts';
import type { GgufFile } from '../checkpoint/gguf-reader.ts';
import { openGguf } from '../checkpoint/gguf-reader.ts';
import { type Checkpoint, openCheckpoint } from '../checkpoint/open.ts';
import { elementCount } from '../checkpoint/tensor-file.ts';
import { packageFolder } from '../device/ggml/library.ts';
import { openQuantizer } from '../device/ggml/quantize.ts';
import { installedGgmlRelease } from '../device/ggml/release.ts';
import { isQuantized } from '../graph/dtype.ts';
import type { TokenizerFiles } from '../tokenizer/json-tokenizer.ts';
import type { BuildRecipe } from './config.ts';
import { type ContentHash, contentHash } from './content-hash.ts';
import { hashFiles, tokenizerFolderName, writeManifest } from './engine-folder.ts';
import { type EngineSource, ggufSource } from './engine-source.ts';
import { huggingFaceSource } from './hugging-face-source.ts';
import { type EngineManifest, engineFormatVersion } from './manifest.ts';
import { modelOfGguf } from './model.ts';
import { writeAtomically } from './output.ts';
import { type Reporter, silentReporter } from './reporter.ts';
import { placeFile, planQuantization, type QuantizationPlan, writeWeights } from './write-weights.ts';

const weightsFileName = 'rank0.gguf';

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
  const checkpoint = openCheckpoint(request.source);
  // Before anything is written: a model that no device could run is refused at once.
  const source = await engineSource(checkpoint, request.name);
  const reporter = request.reporter ?? silentReporter;
  for (const note of source.notes) reporter.note(note);
  const plan = planQuantization(source, request.recipe);
  const again = plan.tensors.filter(
    ({ tensor, dtype }) => isQuantized(tensor.dtype) && dtype !== tensor.dtype,
  );
  if (again.length > 0)
    reporter.note(`${again.length} tensors were quantized before: the original would lose less`);
  const hash = request.hash ?? (await contentHash(checkpoint));
  const manifest = await writeAtomically(request.output, request.replace ?? false, async (folder) => {
    const known = await writeFiles(folder, checkpoint, source, plan, { ...request, hash, reporter });
    request.signal?.throwIfAborted();
    const manifest = await describeEngine(folder, checkpoint, plan, { ...request, hash }, known);
    await writeManifest(folder, manifest);
    return manifest;
  });
  return { manifest };
}

async function engineSource(checkpoint: Checkpoint, name: string): Promise<EngineSource> {
  if (checkpoint.kind !== 'gguf') return huggingFaceSource(checkpoint, name);
  await modelOfGguf(checkpoint);
  return ggufSource(checkpoint);
}

type Settled = BuildRequest & { hash: ContentHash; reporter: Reporter };

/** @returns hashes that need not be computed again, by path in the engine */
async function writeFiles(
  folder: string,
  checkpoint: Checkpoint,
  source: EngineSource,
  plan: QuantizationPlan,
  request: Settled,
): Promise<Map<string, string>> {
  await writeTokenizer(join(folder, tokenizerFolderName), source.tokenizer);
  const path = join(folder, weightsFileName);
  if (isReady(checkpoint, plan)) {
    await placeFile(checkpoint.path, path);
    return new Map([[weightsFileName, request.hash.sha256]]);
  }
  const { reporter, recipe, signal } = request;
  const quantizer = openQuantizer(packageFolder(), request.threads ?? availableParallelism());
  await writeWeights(path, source, plan, recipe, { quantizer, reporter, signal });
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

/** The manifest of what was written, read back from the weights themselves. */
async function describeEngine(
  folder: string,
  checkpoint: Checkpoint,
  plan: QuantizationPlan,
  request: BuildRequest & { hash: ContentHash },
  known: ReadonlyMap<string, string>,
): Promise<EngineManifest> {
  const gguf = openGguf(join(folder, weightsFileName));
  const { architecture, hyperparameters } = await modelOfGguf(gguf);
  const { contextLength } = hyperparameters;
  const { recipe } = request;
  return {
    format: 'nereid-engine',
    formatVersion: engineFormatVersion,
    name: request.name,
    nereidVersion: packageVersion(),
    target: { device: recipe.target, ggmlRelease: installedGgmlRelease() ?? 'unknown' },
    source: { kind: checkpoint.kind, sha256: request.hash.sha256 },
    architecture: architecture.name,
    hyperparameters: { ...hyperparameters },
    contextLength: Math.min(contextLength, recipe.contextLengthMax ?? contextLength),
    vocabularySize: hyperparameters.vocabularySize,
    parameters: [...gguf.tensors.values()].reduce((sum, tensor) => sum + elementCount(tensor.shape), 0),
    quantization: { tensors: countTypes(plan), exceptions: plan.exceptions },
    kvDtype: recipe.kvDtype,
    recipe,
    ranks: [weightsFileName],
    files: await hashFiles(folder, { known, signal: request.signal }),
  };
}

function countTypes(plan: QuantizationPlan): Record<string, number> {
  const counts = new Map<string, number>();
  for (const { dtype } of plan.tensors) counts.set(dtype, (counts.get(dtype) ?? 0) + 1);
  return Object.fromEntries([...counts].sort((a, b) => b[1] - a[1]));
}
