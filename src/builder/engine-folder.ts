import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { messageOf } from '../base/errors.ts';
import { BuilderError } from './errors.ts';
import { sha256File } from './hash.ts';
import {
  type EngineFile,
  type EngineManifest,
  engineFormatVersion,
  manifestBytesMax,
  manifestFileName,
  manifestSchema,
} from './manifest.ts';

/** Where the tokenizer's files lie inside an engine. */
export const tokenizerFolderName = 'tokenizer';

/** Whether a folder claims to be an engine (it has an engine.json). Says nothing about its health. */
export function isEngineFolder(path: string): boolean {
  return existsSync(join(path, manifestFileName));
}

const rebuild = 'build the engine again with `nereid build`';

/**
 * Reads an engine's manifest and checks format version and the size of every file. Does not hash: see {@link verifyEngine}.
 * @throws BuilderError ENGINE_*
 */
export function readEngine(folder: string): EngineManifest {
  const path = join(resolve(folder), manifestFileName);
  const manifest = parseManifest(path, readManifestText(folder, path));
  for (const file of manifest.files) checkSize(folder, file);
  for (const rank of manifest.ranks) {
    if (manifest.files.some((file) => file.path === rank)) continue;
    throw new BuilderError('ENGINE_MANIFEST_INVALID', `${path} lists no hash for ${rank}; ${rebuild}`);
  }
  return manifest;
}

function readManifestText(folder: string, path: string): string {
  try {
    const { size } = statSync(path);
    if (size <= manifestBytesMax) return readFileSync(path, 'utf8');
  } catch (thrown) {
    const unfinished = basename(folder).includes('.partial-') ? ' (an interrupted build left it)' : '';
    const problem = `${folder} is no engine folder: it has no ${manifestFileName}${unfinished}`;
    throw new BuilderError('ENGINE_NOT_FOUND', `${problem}; ${rebuild}`, { cause: thrown });
  }
  const problem = `${path} is larger than a manifest may be (${manifestBytesMax} bytes)`;
  throw new BuilderError('ENGINE_MANIFEST_INVALID', `${problem}; ${rebuild}`);
}

function parseManifest(path: string, text: string): EngineManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (thrown) {
    const message = `${path} is damaged (${messageOf(thrown)}); ${rebuild}`;
    throw new BuilderError('ENGINE_MANIFEST_INVALID', message, { cause: thrown });
  }
  const version = (value as { formatVersion?: unknown } | null)?.formatVersion;
  if (version !== undefined && version !== engineFormatVersion) {
    const problem = `${path} has engine format version ${String(version)}; this Nereid reads version ${engineFormatVersion}`;
    throw new BuilderError('ENGINE_FORMAT_VERSION', `${problem}: ${rebuild}`);
  }
  const result = manifestSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const problem = `${path} is no valid manifest (${issue?.path.join('.')}: ${issue?.message})`;
  throw new BuilderError('ENGINE_MANIFEST_INVALID', `${problem}; ${rebuild}`);
}

function checkSize(folder: string, file: EngineFile): void {
  const path = join(folder, file.path);
  let bytes: number;
  try {
    bytes = statSync(path).size;
  } catch (thrown) {
    const message = `engine file ${path} is missing; ${rebuild}`;
    throw new BuilderError('ENGINE_FILE_MISSING', message, { cause: thrown });
  }
  if (bytes === file.bytes) return;
  const problem = `engine file ${path} has ${bytes} bytes instead of ${file.bytes}: it was truncated or changed`;
  throw new BuilderError('ENGINE_FILE_CHANGED', `${problem}; ${rebuild}`);
}

/** A hash of all that an engine was made from and of every file in it: equal for equal engines, another for other weights of the same shape. */
export function contentHash({ source, recipe, kvDtype, files }: EngineManifest): string {
  const parts = [source.sha256, recipe, kvDtype, files.map(({ path, sha256 }) => [path, sha256])];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/**
 * Hashes every file of an engine and compares with the manifest.
 * @param onBytes told after every chunk how many bytes it had
 * @throws BuilderError ENGINE_FILE_CHANGED naming the first file that differs
 */
export async function verifyEngine(
  folder: string,
  options: { onBytes?: (bytes: number) => void; signal?: AbortSignal } = {},
): Promise<EngineManifest> {
  const manifest = readEngine(folder);
  for (const file of manifest.files) {
    const path = join(folder, file.path);
    if ((await sha256File(path, options)) === file.sha256) continue;
    throw new BuilderError('ENGINE_FILE_CHANGED', `engine file ${path} does not match its hash; ${rebuild}`);
  }
  return manifest;
}

/** Sizes and hashes of all files below `folder` but the manifest, in path order. */
export async function hashFiles(
  folder: string,
  options: {
    onBytes?: (bytes: number) => void;
    signal?: AbortSignal;
    known?: ReadonlyMap<string, string>;
  } = {},
): Promise<EngineFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll('\\', '/'),
    )
    .filter((path) => path !== manifestFileName)
    .sort();
  const files: EngineFile[] = [];
  for (const path of paths) {
    const full = join(folder, path);
    const sha256 = options.known?.get(path) ?? (await sha256File(full, options));
    files.push({ path, bytes: (await stat(full)).size, sha256 });
  }
  return files;
}

/** Writes engine.json and makes sure that it is on the disk. The last step of a build. */
export async function writeManifest(folder: string, manifest: EngineManifest): Promise<void> {
  const file = await open(join(folder, manifestFileName), 'wx');
  try {
    await file.writeFile(`${JSON.stringify(manifest, undefined, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}
