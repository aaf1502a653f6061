import type { Logger } from 'pino';
import { ensureEngine } from '../../artifact/resolver.ts';
import { readEngine } from '../../builder/engine-folder.ts';
import { EngineSupervisor } from '../../runtime/supervisor.ts';
import { openTokenizer } from '../../tokenizer/open.ts';
import { type ServeOptions, threadsPerEngine } from './options.ts';

/** One model's engines, running. */
export interface RunningModel {
  name: string;
  engineFolder: string;
  tokenizerFolder: string;
  supervisors: EngineSupervisor[];
}

/**
 * Resolves and, where needed, builds each model's engine, then starts its engine processes.
 * @throws NereidError from whichever layer says no; nothing is left running
 */
export async function startModels(options: ServeOptions, logger: Logger): Promise<RunningModel[]> {
  const enginesInAll = options.models.length * options.engines;
  const running: RunningModel[] = [];
  try {
    for (const reference of options.models) running.push(await startModel(reference, options, enginesInAll, logger));
  } catch (thrown) {
    await stopModels(running, 0);
    throw thrown;
  }
  return running;
}

/** Drains and ends every engine. */
export async function stopModels(models: readonly RunningModel[], drainTimeoutMs: number): Promise<void> {
  await Promise.all(models.flatMap(({ supervisors }) => supervisors.map((one) => one.close({ drainTimeoutMs }))));
}
