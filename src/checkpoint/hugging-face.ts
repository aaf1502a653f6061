import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError, fileError } from './errors.ts';
import { type JsonRecord, readJsonFile } from './json.ts';
import { type ForeignTensor, openSafetensors } from './safetensors.ts';
import { openSafetensorsIndex, type SafetensorsSet } from './safetensors-index.ts';
import type { StoredTensor } from './tensor-file.ts';

/** Files of a Hugging Face folder by what they are for; absent ones are undefined. */
export interface HuggingFacePaths {
  generationConfig?: string;
  tokenizer?: string;
  tokenizerConfig?: string;
  specialTokensMap?: string;
  chatTemplate?: string;
  preprocessorConfig?: string;
}

const fileNames: Record<keyof HuggingFacePaths, string> = {
  generationConfig: 'generation_config.json',
  tokenizer: 'tokenizer.json',
  tokenizerConfig: 'tokenizer_config.json',
  specialTokensMap: 'special_tokens_map.json',
  chatTemplate: 'chat_template.jinja',
  preprocessorConfig: 'preprocessor_config.json',
};

/** A model in Hugging Face's folder layout: small JSON in memory, tensors by position. */
export class HuggingFaceFolder {
  readonly kind = 'hugging-face';
  /** The folder. */
  readonly path: string;
  /** `config.json`, unchecked: each architecture reads its own fields. */
  readonly config: JsonRecord;
  /** `generation_config.json`, or an empty record. */
  readonly generationConfig: JsonRecord;
  readonly paths: HuggingFacePaths;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Tensors of types that no device computes with. */
  readonly foreign: ReadonlyMap<string, ForeignTensor>;
  /** The weight files. */
  readonly files: readonly string[];

  constructor(path: string, config: JsonRecord, paths: HuggingFacePaths, weights: SafetensorsSet) {
    this.path = path;
    this.config = config;
    this.paths = paths;
    this.generationConfig = paths.generationConfig ? readJsonFile(paths.generationConfig) : {};
    this.tensors = weights.tensors;
    this.foreign = weights.foreign;
    this.files = weights.files;
  }

  /** @throws CheckpointError naming the tensor, and its type where it is there but of a type that no device computes with */
  tensor(name: string): StoredTensor {
    const tensor = this.tensors.get(name);
    if (tensor) return tensor;
    const other = this.foreign.get(name);
    if (other) {
      const fix = 'use the original bf16 or f16 checkpoint and let Nereid quantize it';
      throw new CheckpointError(
        'TENSOR_TYPE_UNSUPPORTED',
        `${other.path}: tensor '${name}' is of type ${other.type}; ${fix}`,
      );
    }
    const fix = 'check that config.json belongs to these weights';
    throw new CheckpointError('TENSOR_NOT_FOUND', `${this.path} has no tensor '${name}'; ${fix}`);
  }

  /**
   * The path of a file that the caller cannot do without.
   * @throws CheckpointError naming the file
   */
  requirePath(file: keyof HuggingFacePaths): string {
    const path = this.paths[file];
    if (path) return path;
    const sentencePiece = file === 'tokenizer' && isFile(join(this.path, 'tokenizer.model'));
    const fix = sentencePiece
      ? 'convert its tokenizer.model with transformers (AutoTokenizer.from_pretrained(…).save_pretrained(…))'
      : `download ${fileNames[file]} from the model's repository into the folder`;
    throw new CheckpointError('CHECKPOINT_INCOMPLETE', `${this.path} has no ${fileNames[file]}; ${fix}`);
  }
}

/**
 * Opens a folder with `config.json` and safetensors weights, single or sharded.
 * @throws CheckpointError saying which file is missing or wrong
 */
export function openHuggingFace(folder: string): HuggingFaceFolder {
  const names = listFolder(folder);
  if (!names.includes('config.json')) {
    const problem = `${folder} has no config.json, so it is no Hugging Face model folder`;
    throw new CheckpointError('CHECKPOINT_INCOMPLETE', `${problem}; download the whole repository`);
  }
  const config = readJsonFile(join(folder, 'config.json'));
  return new HuggingFaceFolder(folder, config, findPaths(folder), openWeights(folder, names));
}

/** File names in a folder. @throws CheckpointError when it is none or cannot be read */
export function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (thrown) {
    throw fileError(folder, thrown);
  }
}

function isFile(path: string): boolean {
  return existsSync(path) && statSync(path).isFile();
}

function findPaths(folder: string): HuggingFacePaths {
  const paths: HuggingFacePaths = {};
  for (const [key, name] of Object.entries(fileNames) as [keyof HuggingFacePaths, string][]) {
    const path = join(folder, name);
    if (isFile(path)) paths[key] = path;
  }
  return paths;
}

function openWeights(folder: string, names: readonly string[]): SafetensorsSet {
  if (names.includes('model.safetensors.index.json')) {
    return openSafetensorsIndex(join(folder, 'model.safetensors.index.json'));
  }
  if (names.includes('model.safetensors')) {
    const path = join(folder, 'model.safetensors');
    const { tensors, foreign } = openSafetensors(path);
    return { files: [path], tensors, foreign };
  }
  throw missingWeights(folder, names);
}

function missingWeights(folder: string, names: readonly string[]): CheckpointError {
  const pickled = names.find((name) => isPickleName(name));
  if (pickled) return pickleError(join(folder, pickled));
  const shard = names.find((name) => name.endsWith('.safetensors'));
  if (shard) {
    const problem = `${folder} has ${shard}, but neither model.safetensors nor model.safetensors.index.json`;
    return new CheckpointError(
      'CHECKPOINT_INCOMPLETE',
      `${problem}; download the index, or rename a single file to model.safetensors`,
    );
  }
  const fix = 'download model.safetensors, or model.safetensors.index.json with its shards';
  return new CheckpointError('CHECKPOINT_INCOMPLETE', `${folder} has no weights; ${fix}`);
}

/** PyTorch, TensorFlow and Flax weights, as their savers name them. */
export function isPickleName(name: string): boolean {
  return /\.(bin|pt|pth|ckpt|h5|msgpack)$/.test(name) || /\.bin\.index\.json$/.test(name);
}

/** The error for weights in a format that runs code, with how to convert them. */
export function pickleError(path: string): CheckpointError {
  const problem = `${path} is not safetensors (pickled weights can run code when they are read)`;
  const fix =
    'load it with transformers and save_pretrained(…, safe_serialization=True), then give that folder';
  return new CheckpointError('CHECKPOINT_FORMAT_UNSUPPORTED', `${problem}; ${fix}`);
}
