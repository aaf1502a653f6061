import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../base/errors.ts';
import { dataTypeOf, type ModelConfig, type ModelWarmup } from './config/types.ts';
import { RepositoryError } from './errors.ts';
import type { Model } from './model.ts';
import { bytesTensor, elementBytes, elementCount, type Tensor } from './tensor.ts';

/** Bytes of one warm-up input, and how long one sample may take. */
export const warmupBytesMax = 256 * 1024 * 1024;
export const warmupTimeoutMs = 600_000;

/**
 * Runs the samples that a configuration lists before the model counts as ready.
 * @throws RepositoryError INTERNAL with the sample's name when one fails
 */
export async function warmUp(model: Model, folder: string): Promise<void> {
  for (const sample of model.config.model_warmup) {
    const inputs = await sampleInputs(sample, model.config, folder);
    for (let run = 0; run < Math.max(1, sample.count); run++) {
      try {
        await runOnce(model, inputs);
      } catch (cause) {
        const message = `failed to run warmup sample '${sample.name}' of '${model.name}': ${messageOf(cause)}`;
        throw new RepositoryError('INTERNAL', message, { cause });
      }
    }
  }
}

async function runOnce(model: Model, inputs: readonly Tensor[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const inference = model.infer(
        { id: '', inputs, parameters: {} },
        {
          respond: (response, isFinal) => {
            if (response?.error) reject(response.error);
            else if (isFinal) resolve();
          },
        },
      );
      timer = setTimeout(() => {
        inference.cancel();
        reject(new Error(`it took longer than ${warmupTimeoutMs} ms`));
      }, warmupTimeoutMs);
    });
  } finally {
    clearTimeout(timer);
  }
}

async function sampleInputs(sample: ModelWarmup, config: ModelConfig, folder: string): Promise<Tensor[]> {
  const inputs: Tensor[] = [];
  for (const [name, source] of Object.entries(sample.inputs)) {
    const datatype = dataTypeOf(source.data_type);
    const isFixed = source.dims.every((dimension) => dimension >= 0);
    if (!datatype || !isFixed) throw invalid(sample, name, 'needs a data_type and fixed dims');
    const shape = config.max_batch_size > 0 ? [Math.max(1, sample.batch_size), ...source.dims] : source.dims;
    const count = elementCount(shape);
    const bytes = count * Math.max(1, elementBytes[datatype]);
    if (bytes > warmupBytesMax) throw invalid(sample, name, `has over ${warmupBytesMax} bytes`);
    if (source.input_data_file) {
      const path = join(folder, 'warmup', source.input_data_file);
      const data = await readFile(path).catch((cause: unknown) => {
        throw invalid(sample, name, `cannot be read from ${path}: ${messageOf(cause)}`);
      });
      inputs.push({ name, datatype, shape, data });
    } else if (datatype === 'BYTES') {
      inputs.push(
        bytesTensor(
          name,
          shape,
          Array.from({ length: count }, () => ''),
        ),
      );
    } else {
      const data = source.random_data && datatype !== 'BOOL' ? randomBytes(bytes) : new Uint8Array(bytes);
      inputs.push({ name, datatype, shape, data });
    }
  }
  return inputs;
}

function invalid(sample: ModelWarmup, input: string, problem: string): RepositoryError {
  return new RepositoryError(
    'INVALID_ARGUMENT',
    `input '${input}' of warmup sample '${sample.name}' ${problem}`,
  );
}
