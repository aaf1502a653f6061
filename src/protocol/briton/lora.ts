import type { NpyArray } from '../../checkpoint/npy.ts';
import type { TaskAdapters } from '../../runtime/adapters/task-adapters.ts';
import type { AdapterReference } from '../../runtime/requests/request.ts';
import { ProtocolError } from '../errors.ts';
import type { BritonTensor, InferenceRequest } from './messages.ts';

/** Numbers of Briton's `DataType` that adapters come in, with their sizes. */
const types: Readonly<Record<number, readonly [dtype: NpyArray['dtype'], bytes: number]>> = {
  4: ['i32', 4],
  10: ['f16', 2],
  11: ['bf16', 2],
  12: ['f32', 4],
};

/**
 * The adapter of a request: of a task that is known, or loaded from what the request brings (Briton's priming request).
 * @throws ProtocolError PARAMETER_INVALID; RuntimeError `ADAPTER_*`, `ADAPTERS_UNSUPPORTED`; CheckpointError `LORA_*`
 */
export async function adapterOf(
  { lora_task_id: task, lora_weights: weights, lora_config: config }: InferenceRequest,
  tasks: TaskAdapters,
): Promise<AdapterReference | undefined> {
  if (task === undefined) {
    if (!weights && !config) return undefined;
    throw invalid('lora_task_id', 'lora_task_id must be set for LoRA inference');
  }
  if (!weights && !config) return tasks.find(BigInt(task));
  if (!weights || !config) {
    const missing = weights ? 'lora_config' : 'lora_weights';
    const problem = 'Request for LoRA inference must have both lora_weights and lora_keys';
    throw invalid(missing, `${problem} (lora_config); ${missing} is missing`);
  }
  const brought = {
    weights: arrayOf('lora_weights', weights),
    config: arrayOf('lora_config', config),
  };
  return tasks.load(BigInt(task), brought);
}

function arrayOf(parameter: string, { shape, dtype, data }: BritonTensor): NpyArray {
  const type = types[dtype];
  if (!type) {
    const problem = `${parameter} has the data type ${dtype}`;
    throw invalid(parameter, `${problem}; it must be INT32, FLOAT16, BFLOAT16 or FLOAT32`);
  }
  const [name, elementBytes] = type;
  const bytes = shape.reduce((product, size) => product * size, elementBytes);
  if (shape.length < 2 || bytes !== data.length) {
    const problem = `${parameter} has ${data.length} bytes for the shape [${shape}] of ${name}`;
    throw invalid(parameter, `${problem}; send the arrays of hf_lora_convert.py`);
  }
  return { dtype: name, shape, data };
}

function invalid(parameter: string, message: string): ProtocolError {
  return new ProtocolError('PARAMETER_INVALID', message, { parameter });
}
