import { statSync } from 'node:fs';
import Table from 'cli-table3';
import type { Logger } from 'pino';
import type { ModelRepository } from '../../repository/model.ts';
import type { Repository } from '../../repository/repository.ts';
import { CliError } from '../errors.ts';
import { SupervisedEngineHost } from './engine-host.ts';
import type { FrontEndModel, ModelText } from './front-end.ts';
import type { RepositoryServeOptions, ServeOptions } from './options.ts';

/** An open repository that can be closed. */
export interface OpenRepository {
  repository: ModelRepository;
  /**
   * Its engines as the other protocols serve them. Only where models neither come nor go: those protocols' lists are fixed.
   * @param taken names of models that are served already
   */
  frontEndModels(taken: readonly string[], openText: OpenText): Promise<FrontEndModel[]>;
  /** Running requests may finish so long. */
  close(drainMs: number): Promise<void>;
}

type OpenText = (tokenizerFolder: string) => Promise<ModelText>;

/**
 * Opens the folders of `--model-repository`, loads what the control mode says, and prints tritonserver's table of models.
 * @throws CliError MODEL_LOAD_FAILED for a folder that is not there, and for a model that fails to load, with `--exit-on-error`
 */
export async function openModelRepository(
  folders: RepositoryServeOptions,
  options: ServeOptions,
  logger: Logger,
  signal: AbortSignal,
): Promise<OpenRepository> {
  for (const folder of folders.folders) {
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) continue;
    const message = `there is no folder ${folder}; --model-repository takes the one that holds the models' folders`;
    throw new CliError('MODEL_LOAD_FAILED', message, { usage: false });
  }
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
  return {
    repository,
    frontEndModels: (taken, openText) => frontEndModels(repository, taken, openText),
    close: (drainMs) => repository.close(drainMs),
  };
}

/** What others call the models around an engine; where there is one engine, they are names of it too. */
const textModels = ['ensemble', 'tensorrt_llm_bls'];

function frontEndModels(
  repository: Repository,
  taken: readonly string[],
  openText: OpenText,
): Promise<FrontEndModel[]> {
  if (repository.controlMode !== 'none') return Promise.resolve([]);
  const engines = repository.engines().filter(({ model }) => !taken.includes(model));
  const aliases = textModels.filter((name) => repository.isModelReady(name) && !taken.includes(name));
  return Promise.all(
    engines.map(async ({ model, client, tokenizerFolder }) => ({
      name: model,
      aliases: engines.length === 1 ? aliases : [],
      tokenizerFolder,
      text: await openText(tokenizerFolder),
      clients: [client],
    })),
  );
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
