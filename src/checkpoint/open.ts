import { type Stats, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { withFile } from './byte-source.ts';
import { CheckpointError, fileError } from './errors.ts';
import { ggufMagic } from './gguf-limits.ts';
import { type GgufFile, openGguf } from './gguf-reader.ts';
import { parseShardName } from './gguf-split.ts';
import {
  type HuggingFaceFolder,
  isPickleName,
  listFolder,
  openHuggingFace,
  pickleError,
} from './hugging-face.ts';

/** A model that someone trained, told apart by `kind`. Both have `path`, `files`, `tensors` and `tensor(name)`. */
export type Checkpoint = HuggingFaceFolder | GgufFile;

/**
 * Opens a `.gguf` file or a folder (Hugging Face layout, or one that holds a single GGUF model).
 * @throws CheckpointError saying what `path` is instead, and what to give
 */
export function openCheckpoint(path: string): Checkpoint {
  const stat = statOf(path);
  if (stat.isDirectory()) return openFolder(path);
  const firstBytes = withFile(path, (source) => {
    const bytes = Buffer.alloc(Math.min(8, source.sizeBytes));
    source.readInto(0, bytes);
    return bytes.toString('latin1');
  });
  if (firstBytes.startsWith(ggufMagic)) return openGguf(path);
  throw fileProblem(path, firstBytes);
}

function statOf(path: string): Stats {
  try {
    return statSync(path);
  } catch (thrown) {
    throw fileError(path, thrown);
  }
}

function fileProblem(path: string, firstBytes: string): CheckpointError {
  if (path.endsWith('.safetensors') || path.endsWith('.json')) {
    const problem = `${path} is one file of a model folder`;
    return new CheckpointError('CHECKPOINT_UNRECOGNIZED', `${problem}; give the folder: ${dirname(path)}`);
  }
  if (/^(lmgg|tjgg|fmgg|algg)/.test(firstBytes)) {
    const problem = `${path} is in ggml's format from before GGUF`;
    return new CheckpointError(
      'CHECKPOINT_FORMAT_UNSUPPORTED',
      `${problem}; convert the original model to GGUF again`,
    );
  }
  if (isPickleName(path)) return pickleError(path);
  const problem = `${path} is neither a GGUF file nor a folder`;
  return new CheckpointError(
    'CHECKPOINT_UNRECOGNIZED',
    `${problem}; give a .gguf file or a Hugging Face folder`,
  );
}

function openFolder(folder: string): Checkpoint {
  const names = listFolder(folder);
  if (names.includes('engine.json')) {
    const problem = `${folder} is a built engine, not a checkpoint`;
    throw new CheckpointError(
      'CHECKPOINT_UNRECOGNIZED',
      `${problem}; serve it, or give the checkpoint that it was built from`,
    );
  }
  if (names.includes('config.json') && names.some(isHuggingFaceWeights)) return openHuggingFace(folder);
  const models = names.filter((name) => name.endsWith('.gguf') && (parseShardName(name)?.number ?? 1) === 1);
  const [model] = models;
  if (model && models.length === 1) return openGguf(join(folder, model));
  if (models.length > 1) {
    const problem = `${folder} holds ${models.length} GGUF models`;
    throw new CheckpointError(
      'CHECKPOINT_UNRECOGNIZED',
      `${problem}; give one of them: ${models.slice(0, 8).join(', ')}`,
    );
  }
  throw folderProblem(folder, names);
}

function isHuggingFaceWeights(name: string): boolean {
  return name.endsWith('.safetensors') || name === 'model.safetensors.index.json';
}

function folderProblem(folder: string, names: readonly string[]): CheckpointError {
  const shard = names.find((name) => name.endsWith('.gguf'));
  if (shard) {
    const problem = `${folder} has ${shard} without the first file of its set`;
    return new CheckpointError('CHECKPOINT_INCOMPLETE', `${problem}; download all of them`);
  }
  if (names.includes('adapter_config.json')) {
    const problem = `${folder} is a LoRA adapter, not a model`;
    return new CheckpointError(
      'CHECKPOINT_UNRECOGNIZED',
      `${problem}; give its base model, and the adapter beside it`,
    );
  }
  const pickled = names.find((name) => isPickleName(name));
  if (pickled) return pickleError(join(folder, pickled));
  if (names.includes('config.json')) {
    const fix = 'download model.safetensors, or model.safetensors.index.json with its shards';
    return new CheckpointError('CHECKPOINT_INCOMPLETE', `${folder} has no weights; ${fix}`);
  }
  const what = names.length === 0 ? 'is empty' : 'has no config.json and no .gguf file';
  return new CheckpointError(
    'CHECKPOINT_UNRECOGNIZED',
    `${folder} ${what}; give a Hugging Face folder or a .gguf file`,
  );
}
