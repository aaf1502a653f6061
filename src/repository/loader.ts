import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { definite, messageOf } from '../base/errors.ts';
import type { Backend, BackendModule, RepositoryLogger } from './backend.ts';
import { backends } from './backend-registry.ts';
import type { ModelConfig } from './config/types.ts';
import { validateConfig, validateIdentity } from './config/validate.ts';
import type { EngineHost } from './engine-host.ts';
import { modelFailed, versionFailed } from './entry.ts';
import { RepositoryError, toRepositoryError } from './errors.ts';
import { hasConfig, readConfig, servedVersions, versionsIn } from './folder.ts';
import type { Model } from './model.ts';
import { ServedVersion } from './served-version.ts';
import { warmUp } from './warmup.ts';

/** What loading needs from outside. */
export interface LoaderParts {
  engines: EngineHost;
  clock: Clock;
  logger: RepositoryLogger;
  /** Off with `--disable-auto-complete-config`. */
  autoComplete: boolean;
  configName?: string;
  /** Other models of the repository. @throws RepositoryError */
  model(name: string, version?: string): Model;
}

/** A model as its files describe it: what is to be loaded. */
export interface PlannedModel {
  name: string;
  folder: string;
  config: ModelConfig;
  versions: string[];
  backend: string;
}

/**
 * Reads and checks a model's configuration and picks the versions to serve.
 * @throws RepositoryError with the reason
 */
export async function planModel(
  name: string,
  folder: string,
  override: ModelConfig | undefined,
  parts: LoaderParts,
): Promise<PlannedModel> {
  const all = await versionsIn(folder);
  const config = override ?? (await readConfig(folder, name, parts.configName));
  validateIdentity(config, name);
  const backend = backendOf(config);
  if (!backends.has(backend)) {
    const isConfigured = override !== undefined || (await hasConfig(folder));
    const thrown = unknownBackend(name, backend, isConfigured);
    throw backend === '' ? thrown : versionFailed(name, all.at(-1) ?? '1', thrown);
  }
  const module = await backends.load(backend);
  if (parts.autoComplete) await module.autoComplete?.(config, { folder, versions: all });
  // An ensemble's version folder holds nothing, and git keeps no empty folders.
  const versions =
    all.length === 0 && backend === 'ensemble' ? ['1'] : servedVersions(config.version_policy, all);
  if (versions.length === 0) {
    const wanted = `${folder} needs a folder named 1 (or the versions that version_policy names)`;
    const text = `at least one version must be available under the version policy of model '${name}'; ${wanted}`;
    throw modelFailed(name, new RepositoryError('INVALID_ARGUMENT', text));
  }
  try {
    validateConfig(config);
  } catch (thrown) {
    throw versionFailed(name, definite(versions.at(-1), 'a version'), thrown);
  }
  return { name, folder, config, versions, backend };
}

/** The backend's registry name. */
function backendOf({ backend, platform }: ModelConfig): string {
  return platform === 'ensemble' ? 'ensemble' : backend || platform;
}

function unknownBackend(name: string, backend: string, isConfigured: boolean): RepositoryError {
  const known = backends.names.join(', ');
  if (backend === '') {
    const problem = isConfigured ? 'its configuration names no backend' : 'it has no config.pbtxt';
    return new RepositoryError(
      'INVALID_ARGUMENT',
      `Invalid model name: '${name}': ${problem}; known: ${known}`,
    );
  }
  return new RepositoryError(
    'INVALID_ARGUMENT',
    `unable to find backend library for backend '${backend}', try specifying runtime on the model configuration. Known: ${known}`,
  );
}

/**
 * Loads one version and warms it up.
 * @throws RepositoryError with the reason; nothing is left loaded
 */
export async function loadVersion(
  planned: PlannedModel,
  version: string,
  parts: LoaderParts,
): Promise<ServedVersion> {
  const { name, folder } = planned;
  const startedNs = parts.clock.nowNs();
  const config = structuredClone(planned.config);
  const versionFolder = join(folder, version);
  let backend: Backend | undefined;
  try {
    const module: BackendModule = await backends.load(planned.backend);
    const { engines, clock, logger, model } = parts;
    backend = await module.load({
      name,
      version,
      config,
      folder,
      versionFolder,
      model,
      engines,
      clock,
      logger,
    });
    const labels = await readLabels(config, folder);
    const loadSeconds = (clock.nowNs() - startedNs) / 1e9;
    const served = new ServedVersion({ version, config, backend, labels, clock, loadSeconds });
    await warmUp(served, folder);
    return served;
  } catch (thrown) {
    await backend?.close();
    throw toRepositoryError(thrown);
  }
}

/** Bytes of a label file. */
const labelBytesMax = 16 * 1024 * 1024;

async function readLabels(config: ModelConfig, folder: string): Promise<Map<string, string[]>> {
  const labels = new Map<string, string[]>();
  for (const { name, label_filename: file } of config.output) {
    if (file === '') continue;
    const path = join(folder, file);
    const text = await readFile(path, 'utf8').catch((cause: unknown) => {
      const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      const reason = isMissing ? 'No such file or directory' : messageOf(cause);
      throw new RepositoryError('INTERNAL', `failed to open text file for read ${path}: ${reason}`);
    });
    if (text.length > labelBytesMax) {
      throw new RepositoryError('INVALID_ARGUMENT', `${path} has over ${labelBytesMax} bytes of labels`);
    }
    labels.set(name, text.replace(/\n$/, '').split(/\r?\n/));
  }
  return labels;
}
