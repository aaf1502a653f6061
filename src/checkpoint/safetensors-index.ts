import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CheckpointError } from './errors.ts';
import { isRecord, readJsonFile } from './json.ts';
import {
  type ForeignTensor,
  openSafetensors,
  type SafetensorsFile,
  safetensorsLimits,
} from './safetensors.ts';
import type { StoredTensor } from './tensor-file.ts';

/** The most files that one index may name. */
export const safetensorsShardsMax = 4096;

/** Tensors of one or many safetensors files. */
export interface SafetensorsSet {
  /** Every file that holds a part. */
  files: readonly string[];
  tensors: ReadonlyMap<string, StoredTensor>;
  foreign: ReadonlyMap<string, ForeignTensor>;
}

/**
 * Opens every shard that a `model.safetensors.index.json` names.
 * @throws CheckpointError when the index is invalid, names a file outside its folder or a missing one, or a shard lacks a tensor
 */
export function openSafetensorsIndex(indexPath: string): SafetensorsSet {
  const weightMap = readWeightMap(indexPath);
  const fileNames = [...new Set(weightMap.values())].sort();
  if (fileNames.length > safetensorsShardsMax) {
    throw indexError(
      'SAFETENSORS_LIMIT',
      indexPath,
      `names ${fileNames.length} files, over ${safetensorsShardsMax}`,
    );
  }
  for (const fileName of fileNames) checkFileName(indexPath, fileName);
  const folder = dirname(indexPath);
  const missing = fileNames.filter((fileName) => !existsSync(join(folder, fileName)));
  if (missing.length > 0) {
    const more = missing.length > 4 ? ` and ${missing.length - 4} more` : '';
    const problem = `${missing.slice(0, 4).join(', ')}${more} of ${fileNames.length} weight files are missing in ${folder}`;
    throw new CheckpointError('CHECKPOINT_INCOMPLETE', `${problem}; download the whole repository`);
  }
  const shards = new Map(fileNames.map((name) => [name, openSafetensors(join(folder, name))]));
  return collect(indexPath, weightMap, shards);
}

function indexError(
  code: 'SAFETENSORS_INDEX_INVALID' | 'SAFETENSORS_LIMIT',
  indexPath: string,
  problem: string,
): CheckpointError {
  return new CheckpointError(code, `${indexPath} ${problem}; fetch it again`);
}

function readWeightMap(indexPath: string): Map<string, string> {
  const weightMap = readJsonFile(indexPath).weight_map;
  if (!isRecord(weightMap)) throw indexError('SAFETENSORS_INDEX_INVALID', indexPath, 'has no weight_map');
  const entries = Object.entries(weightMap);
  const { tensorsMax } = safetensorsLimits;
  if (entries.length > tensorsMax) {
    throw indexError('SAFETENSORS_LIMIT', indexPath, `names ${entries.length} tensors, over ${tensorsMax}`);
  }
  const files = new Map<string, string>();
  for (const [name, file] of entries) {
    if (typeof file !== 'string') {
      throw indexError('SAFETENSORS_INDEX_INVALID', indexPath, `gives no file name for '${name}'`);
    }
    files.set(name, file);
  }
  return files;
}

/** A shard lies beside its index: an index from a stranger must not make us read other files. (Links are followed:
 * the hub's cache is made of them.) */
function checkFileName(indexPath: string, fileName: string): void {
  if (/^[^/\\\0]+\.safetensors$/.test(fileName)) return;
  const problem = `names '${fileName.slice(0, 200)}', which is no .safetensors file in the same folder`;
  throw indexError('SAFETENSORS_INDEX_INVALID', indexPath, problem);
}

function collect(
  indexPath: string,
  weightMap: ReadonlyMap<string, string>,
  shards: ReadonlyMap<string, SafetensorsFile>,
): SafetensorsSet {
  const tensors = new Map<string, StoredTensor>();
  const foreign = new Map<string, ForeignTensor>();
  for (const [name, fileName] of weightMap) {
    const shard = shards.get(fileName);
    const tensor = shard?.tensors.get(name);
    const other = shard?.foreign.get(name);
    if (tensor) tensors.set(name, tensor);
    else if (other) foreign.set(name, other);
    else
      throw indexError(
        'SAFETENSORS_INDEX_INVALID',
        indexPath,
        `says that ${fileName} holds '${name}', which it does not`,
      );
  }
  return { files: [...shards.values()].map((shard) => shard.path), tensors, foreign };
}
