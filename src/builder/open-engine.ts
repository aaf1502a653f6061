import { basename, join, resolve } from 'node:path';
import { openGguf } from '../checkpoint/gguf-reader.ts';
import { linearShapes } from '../device/adapters.ts';
import type { DeviceModelSource } from '../device/device.ts';
import { installedGgmlRelease } from '../device/ggml/release.ts';
import type { Architecture } from '../models/architecture.ts';
import type { Hyperparameters } from '../models/hyperparameters.ts';
import { type ModelLinear, modelLinears } from '../models/linears.ts';
import type { RankPart } from '../models/rank-part.ts';
import { readEngine, tokenizerFolderName } from './engine-folder.ts';
import { BuilderError } from './errors.ts';
import type { EngineManifest } from './manifest.ts';
import { modelOfGguf } from './model.ts';

/** What {@link openEngine} may overlook. */
export interface OpenEngineOptions {
  /** Take an engine that was built with another ggml release than the one installed. Default: NEREID_ALLOW_RELEASE_MISMATCH is 1. */
  allowReleaseMismatch?: boolean;
  /** Which rank's weights, of an engine that is divided among several. Default 0. */
  rank?: number;
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
  /** The logical linears that adapters may change; of an undivided engine. */
  linears(): ModelLinear[];
  /** What the rank holds; absent where one rank holds everything. */
  part?: RankPart;
}

/**
 * Opens an engine folder, checking its manifest, sizes and release, or a bare `.gguf` file (benchmarks).
 * @throws BuilderError ENGINE_*, CheckpointError, ModelError, UnknownNameError for an architecture
 */
export async function openEngine(path: string, options: OpenEngineOptions = {}): Promise<OpenedEngine> {
  if (path.endsWith('.gguf')) {
    return { name: basename(path, '.gguf'), ...(await deviceSource(path)) };
  }
  const folder = resolve(path);
  const manifest = readEngine(folder);
  checkRelease(folder, manifest, options);
  const rank = options.rank ?? 0;
  const weights = manifest.ranks[rank];
  if (weights === undefined) {
    const problem = `${folder} was built for ${manifest.ranks.length} ranks, so it has no rank ${rank}`;
    const fix = 'build it with --tensor-parallel and --pipeline-parallel as it is to be served';
    throw new BuilderError('ENGINE_RANK_MISSING', `${problem}; ${fix}`);
  }
  const part = manifest.parts?.[rank];
  return {
    name: manifest.name,
    ...(await sourceOfRank(join(folder, weights), part, manifest.contextLength)),
    manifest,
    tokenizerFolder: join(folder, tokenizerFolderName),
    ...(part && { part }),
  };
}

/** A rank's weights, or its note that the device makes them up. */
async function sourceOfRank(
  path: string,
  part: RankPart | undefined,
  contextLength: number,
): Promise<Pick<OpenedEngine, 'source' | 'linears'>> {
  if (!path.endsWith('.json')) return deviceSource(path, part, contextLength);
  const { randomSource } = await import('./random-source.ts');
  const { source, architecture, hyperparameters } = await randomSource(path, part, contextLength);
  return { source, linears: linearsOf(source, architecture, hyperparameters) };
}

function linearsOf(
  source: Pick<DeviceModelSource, 'record'>,
  architecture: Architecture,
  hyperparameters: Hyperparameters,
): OpenedEngine['linears'] {
  const names = () => new Set(linearShapes(source.record({ tokens: 1, outputRows: 1 })).keys());
  return () => modelLinears(architecture, hyperparameters, names());
}

async function deviceSource(
  path: string,
  part?: RankPart,
  contextLength = Number.POSITIVE_INFINITY,
): Promise<Pick<OpenedEngine, 'source' | 'linears'>> {
  const { source, architecture, hyperparameters } = await modelOfGguf(openGguf(path), part);
  return {
    source: { ...source, contextLength: Math.min(source.contextLength, contextLength) },
    linears: linearsOf(source, architecture, hyperparameters),
  };
}

/** Another release may lay out or round blocks differently. Where no ggml is installed, another device runs the engine. */
function checkRelease(folder: string, manifest: EngineManifest, options: OpenEngineOptions): void {
  if (options.allowReleaseMismatch ?? process.env.NEREID_ALLOW_RELEASE_MISMATCH === '1') return;
  const installed = installedGgmlRelease();
  const { device, ggmlRelease } = manifest.target;
  if (device !== 'ggml') return;
  if (installed === undefined || installed === ggmlRelease) return;
  const problem = `${folder} was built with ggml ${ggmlRelease}, but ${installed} is installed`;
  const fix = 'build it again with `nereid build --force`, or set NEREID_ALLOW_RELEASE_MISMATCH=1';
  throw new BuilderError('ENGINE_RELEASE_MISMATCH', `${problem}; ${fix}`);
}
