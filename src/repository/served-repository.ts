import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { makeTemporaryFolder, removeTemporaryFolder } from '../base/temporary-folder.ts';
import type { EngineClient } from '../runtime/client.ts';
import type { RepositoryLogger } from './backend.ts';
import { createRepository } from './create.ts';
import type { EngineHost } from './engine-host.ts';
import { RepositoryError } from './errors.ts';
import { openRepository, type Repository } from './repository.ts';

/** An engine that runs already, and the tokenizer that belongs to it. */
export interface ServedEngine {
  name: string;
  client: EngineClient;
  /** A folder with tokenizer.json. */
  tokenizerFolder: string;
}

/**
 * Shows running engines as TensorRT-LLM's models, without a repository of the user's: the first as `ensemble`, `preprocessing`,
 * `tensorrt_llm`, `postprocessing` and `tensorrt_llm_bls` (decoupled). The models' files lie in a temporary folder until it is closed.
 * @throws RepositoryError when they cannot be loaded
 */
export async function servedRepository(
  engines: readonly ServedEngine[],
  options: { clock?: Clock; logger?: RepositoryLogger } = {},
): Promise<{ repository: Repository; close(): Promise<void> }> {
  const [engine] = engines;
  if (!engine)
    throw new RepositoryError('NOT_FOUND', 'no engine runs, so there is nothing to show as a model');
  const root = makeTemporaryFolder('served');
  try {
    const folder = join(root, 'models');
    await createRepository({
      target: folder,
      group: 'inflight_batcher_llm',
      engine: engine.name,
      tokenizer: engine.tokenizerFolder,
      values: { triton_max_batch_size: String(Math.max(1, engine.client.description.sequencesMax)) },
    });
    const repository = await openRepository({ folders: [folder], engines: lending(engine), ...options });
    const [failure] = repository.failures();
    if (failure) throw new RepositoryError('INTERNAL', `${failure.name}: ${failure.reason}`);
    return {
      repository,
      close: async () => {
        await repository.close();
        removeTemporaryFolder(root);
      },
    };
  } catch (thrown) {
    removeTemporaryFolder(root);
    throw thrown;
  }
}

/** Lends the one engine; whoever started it ends it. */
function lending({ client, tokenizerFolder }: ServedEngine): EngineHost {
  return { acquire: async () => ({ client, tokenizerFolder, release: async () => {} }) };
}
