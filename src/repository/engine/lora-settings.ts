import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { loraRankMax } from '../../checkpoint/lora-config.ts';
import { loraNpyNames } from '../../checkpoint/lora-npy.ts';
import type { AdapterSource } from '../../runtime/adapters/adapter.ts';
import type { BackendContext } from '../backend.ts';
import { parameterText } from '../config/complete.ts';
import type { EngineSpecification } from '../engine-host.ts';
import { RepositoryError } from '../errors.ts';
import { positive } from './positive-parameter.ts';

/**
 * The parameters `lora_cache_*` and `lora_prefetch_dir` of a model.
 * @throws RepositoryError INVALID_ARGUMENT naming the parameter
 */
export function loraSettings(
  context: BackendContext,
): Pick<EngineSpecification, 'adapters' | 'adaptersAtStart'> {
  const rankMax = positive(context, 'lora_cache_max_adapter_size', loraRankMax);
  const rankUsual = positive(context, 'lora_cache_optimal_adapter_size', loraRankMax);
  const hostBytesMax = positive(context, 'lora_cache_host_memory_bytes', Number.MAX_SAFE_INTEGER);
  const folder = parameterText(context.config, 'lora_prefetch_dir');
  return {
    adapters: {
      ...(rankMax !== undefined && { rankMax }),
      ...(rankUsual !== undefined && { rankUsual }),
      ...(hostBytesMax !== undefined && { hostBytesMax }),
    },
    ...(folder !== undefined && { adaptersAtStart: prefetched(context, resolve(folder)) }),
  };
}

/** Sub-folders that are called by a task's number and hold an adapter; others are skipped with a warning, as the original does. */
function prefetched({ name, logger }: BackendContext, folder: string): AdapterSource[] {
  const problem = `lora_prefetch_dir of ${name} is '${folder}', which is no folder`;
  if (!existsSync(folder)) {
    throw new RepositoryError('INVALID_ARGUMENT', `${problem}; give one with a folder for each task's id`);
  }
  const sources: AdapterSource[] = [];
  for (const entry of readdirSync(folder).sort()) {
    const path = join(folder, entry);
    const holds = [loraNpyNames.weights, 'adapter_config.json'].some((file) => existsSync(join(path, file)));
    // A task's number as requests say it, without leading zeros.
    if (/^(?:0|[1-9]\d{0,19})$/.test(entry) && holds) sources.push({ name: entry, path });
    else
      logger.warn(
        { model: name, path },
        'no LoRA adapter: a folder is called by its task id and holds its files',
      );
  }
  return sources;
}
