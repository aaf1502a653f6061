import { messageOf, NereidError } from '../../base/errors.ts';
import type { NpyArray } from '../../checkpoint/npy.ts';
import type { BroughtAdapter, TaskAdapters } from '../../runtime/adapters/task-adapters.ts';
import type { AdapterReference } from '../../runtime/requests/request.ts';
import { RepositoryError } from '../errors.ts';
import { elementBytes, elementCount, type Tensor, valuesOf } from '../tensor.ts';
import type { Inputs } from './inputs.ts';

/** By row of a request; undefined for the model as it is. */
export type RowAdapters = readonly (AdapterReference | undefined)[];

const arrayTypes: Readonly<Record<string, NpyArray['dtype']>> = {
  FP16: 'f16',
  BF16: 'bf16',
  FP32: 'f32',
  INT32: 'i32',
};

/**
 * The adapters of a request's rows, by their tensors `lora_task_id`, `lora_weights` and `lora_config`.
 * @returns a promise where one has to be loaded, which it may reject as this throws; undefined where no row names one
 * @throws RepositoryError with the original's texts
 */
export function adaptersOf(
  inputs: Inputs,
  rows: number,
  tasks: TaskAdapters,
): RowAdapters | Promise<RowAdapters> | undefined {
  const ids = inputs.get('lora_task_id');
  const weights = present(inputs.get('lora_weights'));
  const config = present(inputs.get('lora_config'));
  if (!ids || ids.data.length === 0) {
    if (!weights && !config) return undefined;
    throw refused('lora_task_id must be set for LoRA inference');
  }
  const values = valuesOf(ids, 'UINT64');
  const taskOf = (row: number): bigint => values[Math.min(row, values.length - 1)] as bigint;
  const all = Array.from({ length: rows }, (_, row) => row);
  if (weights && config) {
    const brought = all.map((row) => ({ weights: arrayOf(weights, row), config: arrayOf(config, row) }));
    return Promise.all(brought.map((one, row) => load(tasks, taskOf(row), one)));
  }
  if (weights || config) {
    const missing = weights ? 'lora_config' : 'lora_weights';
    const problem = 'Request for LoRA inference must have both lora_weights and lora_keys';
    throw refused(`${problem} (lora_config); '${missing}' is missing`);
  }
  try {
    return all.map((row) => tasks.find(taskOf(row)));
  } catch (thrown) {
    throw worded(thrown, undefined);
  }
}

function present(tensor: Tensor | undefined): Tensor | undefined {
  return tensor && tensor.data.length > 0 ? tensor : undefined;
}

async function load(tasks: TaskAdapters, task: bigint, brought: BroughtAdapter): Promise<AdapterReference> {
  try {
    return await tasks.load(task, brought);
  } catch (thrown) {
    throw worded(thrown, brought);
  }
}

/** A row of [batch, rows, values]. */
function arrayOf({ name, datatype, shape, data }: Tensor, row: number): NpyArray {
  const dtype = arrayTypes[datatype];
  if (!dtype) throw refused(`'${name}' is ${datatype}; it must be ${Object.keys(arrayTypes).join(', ')}`);
  const own = shape.length > 2 ? shape.slice(1) : shape;
  const bytes = elementCount(own) * elementBytes[datatype];
  const start = shape.length > 2 ? row * bytes : 0;
  return { dtype, shape: own, data: data.subarray(start, start + bytes) };
}

/** The original's words before ours, where it has any. */
function worded(thrown: unknown, brought: BroughtAdapter | undefined): unknown {
  if (!(thrown instanceof NereidError)) return thrown;
  const status = thrown.kind === 'exhausted' || thrown.kind === 'unavailable' ? 'UNAVAILABLE' : undefined;
  const text = messageOf(thrown);
  const start =
    thrown.code === 'ADAPTER_CACHE_FULL'
      ? 'Cache is full. There are no done tasks to evict: '
      : thrown.code === 'ADAPTER_TOO_LARGE' && brought
        ? `Invalid low_rank (${rankOf(brought)}). low_rank must be smaller than mMaxLowRank: `
        : '';
  return new RepositoryError(status ?? 'INVALID_ARGUMENT', `${start}${text}`, { cause: thrown });
}

/** Columns of a config row: module, layer, rank. */
const rankColumn = 2;

function rankOf({ config }: BroughtAdapter): number {
  const columns = config.shape.at(-1) ?? 1;
  const view = new DataView(config.data.buffer, config.data.byteOffset, config.data.byteLength);
  let rank = 0;
  for (let at = rankColumn * 4; at + 4 <= view.byteLength; at += columns * 4) {
    rank = Math.max(rank, view.getInt32(at, true));
  }
  return rank;
}

function refused(message: string): RepositoryError {
  return new RepositoryError('INVALID_ARGUMENT', message);
}
