import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, normalize, sep } from 'node:path';
import { messageOf } from '../base/errors.ts';
import { completeConfig } from './config/complete.ts';
import { emptyConfig, readConfigJson, readConfigText } from './config/read.ts';
import type { ModelConfig, VersionPolicy } from './config/types.ts';
import { RepositoryError } from './errors.ts';
import type { LoadParameters } from './model.ts';

/** Models of one repository, and files of one model that are looked at for changes. */
export const modelsMax = 10_000;
export const watchedFilesMax = 10_000;
/** How deep a model's folder is looked at for changes. */
const watchedDepthMax = 4;
/** Bytes of a name in a file system. */
const fileNameBytesMax = 255;

/** The names of the models in a repository's folder; none if it cannot be read. @throws RepositoryError for too many */
export async function modelNames(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const names: string[] = [];
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue;
    const isFolder =
      entry.isDirectory() || (entry.isSymbolicLink() && (await isDirectory(join(folder, entry.name))));
    if (isFolder) names.push(entry.name);
  }
  if (names.length > modelsMax) {
    throw new RepositoryError('INVALID_ARGUMENT', `${folder} has over ${modelsMax} models; split it`);
  }
  return names.sort();
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/** A model's versions by its folder: numeric names without leading zeros, ascending. */
export async function versionsIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder).catch(() => []);
  const versions: string[] = [];
  for (const name of entries) {
    if (/^[1-9]\d{0,15}$/.test(name) && (await isDirectory(join(folder, name)))) versions.push(name);
  }
  return versions.sort((a, b) => Number(a) - Number(b));
}

/** The versions that a policy serves. */
export function servedVersions(policy: VersionPolicy, versions: readonly string[]): string[] {
  if (policy.all) return [...versions];
  if (policy.specific) {
    const wanted = new Set(policy.specific.versions.map(String));
    return versions.filter((version) => wanted.has(version));
  }
  const latest = policy.latest?.num_versions ?? 1;
  return latest === 0 ? [] : versions.slice(-latest);
}

/**
 * A model's configuration: config.pbtxt (or `configs/<configName>.pbtxt` where there is one), completed; an empty one where there is
 * no file.
 * @throws RepositoryError with the file's path and the place in it
 */
export async function readConfig(folder: string, name: string, configName?: string): Promise<ModelConfig> {
  const candidates = [
    ...(configName ? [join(folder, 'configs', `${configName}.pbtxt`)] : []),
    join(folder, 'config.pbtxt'),
  ];
  for (const path of candidates) {
    const text = await readFile(path, 'utf8').catch((thrown: NodeJS.ErrnoException) => {
      if (thrown.code === 'ENOENT') return undefined;
      throw new RepositoryError('INTERNAL', `failed to read ${path}: ${thrown.message}`, { cause: thrown });
    });
    if (text === undefined) continue;
    try {
      return completeConfig(readConfigText(text), name);
    } catch (cause) {
      const message = `failed to read text proto from ${path}: ${messageOf(cause)}`;
      throw new RepositoryError('INVALID_ARGUMENT', message, { cause });
    }
  }
  return completeConfig(emptyConfig(), name);
}

/** Whether there is a configuration to read. */
export async function hasConfig(folder: string): Promise<boolean> {
  return (await stat(join(folder, 'config.pbtxt')).catch(() => undefined))?.isFile() ?? false;
}

/** A text that changes when a file of the model does. */
export async function fingerprint(folder: string): Promise<string> {
  const parts: string[] = [];
  const visit = async (path: string, depth: number): Promise<void> => {
    const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (parts.length >= watchedFilesMax) return;
      const child = join(path, entry.name);
      const found = await stat(child).catch(() => undefined);
      parts.push(`${child}:${found?.size}:${found?.mtimeMs}`);
      if (found?.isDirectory() && depth < watchedDepthMax) await visit(child, depth + 1);
    }
  };
  await visit(folder, 1);
  return parts.join('\n');
}

/** A model's folder for one load: its own, or a temporary one with the files that the load request brought. */
export interface LoadFolder {
  path: string;
  /** Given with the load request. */
  config: ModelConfig | undefined;
  remove(): Promise<void>;
}

/** @throws RepositoryError INVALID_ARGUMENT for overrides that cannot be */
export async function prepareFolder(
  own: string | undefined,
  name: string,
  { config, files = {} }: LoadParameters,
): Promise<LoadFolder> {
  const override = config === undefined ? undefined : completeConfig(readOverride(name, config), name);
  const paths = Object.keys(files);
  if (paths.length === 0) {
    if (own === undefined) throw notInRepository(name);
    return { path: own, config: override, remove: async () => {} };
  }
  // Files replace the whole folder, so the configuration must come with them.
  if (!override) throw notInRepository(name);
  for (const path of paths) checkOverridePath(path);
  const root = join(tmpdir(), `nereid-model-${randomUUID()}`);
  for (const [path, content] of Object.entries(files)) {
    const target = join(root, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, content);
  }
  return { path: root, config: override, remove: () => rm(root, { recursive: true, force: true }) };
}

function readOverride(name: string, config: string): ModelConfig {
  try {
    return readConfigJson(config);
  } catch (cause) {
    throw notInRepository(name, cause);
  }
}

/** Triton's words for a model that no folder holds. */
export function notInRepository(name: string, cause?: unknown): RepositoryError {
  return new RepositoryError(
    'INTERNAL',
    `failed to load '${name.slice(0, 200)}', failed to poll from model repository`,
    { cause },
  );
}

function checkOverridePath(path: string): void {
  const parts = normalize(path).split(sep);
  const isInside = path !== '' && !path.startsWith('/') && !path.includes('\0') && !parts.includes('..');
  const fits = parts.every((part) => Buffer.byteLength(part) <= fileNameBytesMax);
  if (isInside && fits) return;
  const shown = path.slice(0, 80);
  throw new RepositoryError(
    'INVALID_ARGUMENT',
    `the file '${shown}' of a load request must be a path inside the model's folder, with names of at most ${fileNameBytesMax} bytes`,
  );
}
