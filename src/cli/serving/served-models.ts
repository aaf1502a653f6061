import type { Logger } from 'pino';
import type { ModelRepository } from '../../repository/model.ts';
import { openRepository } from '../../repository/repository.ts';
import type { FrontEndModel } from './front-end.ts';

/** The models of a front end as TensorRT-LLM's family of models, so that KServe's clients find them. */
export async function openServed(
  _models: readonly FrontEndModel[],
  logger: Logger,
): Promise<{ repository: ModelRepository; close(): Promise<void> }> {
  const engines = { acquire: () => Promise.reject(new Error('no engines')) };
  const repository = await openRepository({ folders: [], engines, logger });
  return { repository, close: () => repository.close(0) };
}
