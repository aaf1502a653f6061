import Table from 'cli-table3';
import type { Logger } from 'pino';
import type { ModelRepository } from '../../repository/model.ts';
import { CliError } from '../errors.ts';
import { SupervisedEngineHost } from './engine-host.ts';
import type { RepositoryServeOptions, ServeOptions } from './options.ts';

/** An open repository that can be closed. */
export interface OpenRepository {
  repository: ModelRepository;
  /** Running requests may finish so long. */
  close(drainMs: number): Promise<void>;
}

/**
 * Opens the folders of `--model-repository`, loads what the control mode says, and prints tritonserver's table of models.
 * @throws CliError MODEL_LOAD_FAILED for a model that fails to load, with `--exit-on-error`
 */
export async function openModelRepository(
  folders: RepositoryServeOptions,
  options: ServeOptions,
  logger: Logger,
  signal: AbortSignal,
): Promise<OpenRepository> {
  const { openRepository } = await import('../../repository/repository.ts');
  const repository = await openRepository({
    folders: folders.folders,
    controlMode: folders.controlMode,
    loadModels: folders.loadModels,
    pollSeconds: folders.pollSeconds,
    strictReadiness: folders.strictReadiness,
    autoComplete: folders.autoComplete,
    engines: new SupervisedEngineHost(options, logger, signal),
    logger,
    drainMs: options.drainSeconds * 1000,
  });
  process.stderr.write(`${modelTable(repository)}\n`);
  const [failure] = repository.failures();
  if (failure && folders.exitOnError) {
    await repository.close(0);
    const message = `the model '${failure.name}' of the repository failed to load: ${failure.reason}; mend it, or serve the others with --exit-on-error false`;
    throw new CliError('MODEL_LOAD_FAILED', message, { usage: false });
  }
  return { repository, close: (drainMs) => repository.close(drainMs) };
}

/** Model, version and status, as scripts look for them. */
function modelTable(repository: ModelRepository): string {
  const table = new Table({
    head: ['Model', 'Version', 'Status'],
    style: { head: [], border: [] },
    chars: asciiBorders,
  });
  for (const { name, version, state, reason } of repository.index(false)) {
    table.push([
      name,
      version || '-',
      state === 'READY' || !reason ? state || 'UNAVAILABLE' : `${state || 'UNAVAILABLE'}: ${reason}`,
    ]);
  }
  return table.toString();
}

const asciiBorders = {
  top: '-',
  'top-mid': '+',
  'top-left': '+',
  'top-right': '+',
  bottom: '-',
  'bottom-mid': '+',
  'bottom-left': '+',
  'bottom-right': '+',
  left: '|',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '|',
  'right-mid': '',
  middle: '|',
};
