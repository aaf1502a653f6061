import { basename, join, resolve } from 'node:path';
import { openGguf } from '../checkpoint/gguf-reader.ts';
import type { DeviceModelSource } from '../device/device.ts';
import { installedGgmlRelease } from '../device/ggml/release.ts';
import { readEngine, tokenizerFolderName } from './engine-folder.ts';
import { BuilderError } from './errors.ts';
import type { EngineManifest } from './manifest.ts';
import { modelOfGguf } from './model.ts';

/** What {@link openEngine} may overlook. */
export interface OpenEngineOptions {
  /** Take an engine that was built with another ggml release than the one installed. Default: NEREID_ALLOW_RELEASE_MISMATCH is 1. */
  allowReleaseMismatch?: boolean;
}

/** An engine ready for a device. Nothing of its weights is in memory. */
export interface OpenedEngine {
  name: string;
  /** What `Device.load` takes. */
  source: DeviceModelSource;
  /** Absent for a bare `.gguf` file, as is the tokenizer's folder. */
  manifest?: EngineManifest;
  /** For `openTokenizer`. */
  tokenizerFolder?: string;
}

/**
 * Opens an engine folder, checking its manifest, sizes and release, or a bare `.gguf` file (benchmarks).
 * @throws BuilderError ENGINE_*, CheckpointError, ModelError, UnknownNameError for an architecture
 */
export async function openEngine(path: string, options: OpenEngineOptions = {}): Promise<OpenedEngine> {
  if (path.endsWith('.gguf')) {
    return { name: basename(path, '.gguf'), source: await deviceSource(path) };
  }
  const folder = resolve(path);
  const manifest = readEngine(folder);
  checkRelease(folder, manifest, options);
  const weights = join(folder, manifest.ranks[0] ?? '');
  return {
    name: manifest.name,
    source: await deviceSource(weights, manifest.contextLength),
    manifest,
    tokenizerFolder: join(folder, tokenizerFolderName),
  };
}

async function deviceSource(
  path: string,
  contextLength = Number.POSITIVE_INFINITY,
): Promise<DeviceModelSource> {
  const { source } = await modelOfGguf(openGguf(path));
  return { ...source, contextLength: Math.min(source.contextLength, contextLength) };
}

/** Another release may lay out or round blocks differently. Where no ggml is installed, another device runs the engine. */
function checkRelease(folder: string, manifest: EngineManifest, options: OpenEngineOptions): void {
  if (options.allowReleaseMismatch ?? process.env.NEREID_ALLOW_RELEASE_MISMATCH === '1') return;
  const installed = installedGgmlRelease();
  const { ggmlRelease } = manifest.target;
  if (installed === undefined || installed === ggmlRelease) return;
  const problem = `${folder} was built with ggml ${ggmlRelease}, but ${installed} is installed`;
  const fix = 'build it again with `nereid build --force`, or set NEREID_ALLOW_RELEASE_MISMATCH=1';
  throw new BuilderError('ENGINE_RELEASE_MISMATCH', `${problem}; ${fix}`);
}
