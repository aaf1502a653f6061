import type { Logger } from 'pino';
import type { ModelRepository } from '../../repository/model.ts';
import { servedRepository } from '../../repository/served-repository.ts';
import { EnginePool } from '../../runtime/routing/pool.ts';
import type { FrontEndModel } from './front-end.ts';

/** Shows the models of a front end as TensorRT-LLM's family of models, so that KServe's clients find them. */
export function openServed(
  models: readonly FrontEndModel[],
  logger: Logger,
): Promise<{ repository: ModelRepository; close(): Promise<void> }> {
  const engines = models.map(({ name, clients, tokenizerFolder }) => ({
    name,
    client: new EnginePool(clients),
    tokenizerFolder,
  }));
  // What they are loaded from is nobody's folder: not worth a line each.
  return servedRepository(engines, { logger: logger.child({}, { level: 'warn' }) });
}
