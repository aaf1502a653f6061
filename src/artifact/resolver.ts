import { setTimeout as sleep } from 'node:timers/promises';
import { NereidError } from '../base/errors.ts';
import { type BuildRecipe, defaultRecipe } from '../builder/config.ts';
import { contentHash } from '../builder/content-hash.ts';
import { readEngine } from '../builder/engine-folder.ts';
import { sha256Text } from '../builder/hash.ts';
import { isBeingBuilt } from '../builder/lock.ts';
import { engineFormatVersion, manifestFileName } from '../builder/manifest.ts';
import { silentReporter } from '../builder/reporter.ts';
import { installedGgmlRelease } from '../device/ggml/release.ts';
import { Cache } from './cache.ts';
import { type ResolvedModel, type ResolveOptions, resolveModel } from './resolve-model.ts';

export { type ResolvedModel, type ResolveOptions, resolveModel } from './resolve-model.ts';

/** How often a wait for another process's build of the same engine looks again, and how long it waits at most. */
const waitStepMs = 500;
const waitMaxMs = 60 * 60 * 1000;
/** How long it waits before it tries to take the lock again. */
const waitTurnMs = 60_000;

/** How a reference becomes an engine. */
export interface EnsureEngineOptions extends ResolveOptions {
  /** What the engine is built with; what is left out is the catalogue's advice, then the default. */
  recipe?: Partial<BuildRecipe>;
  /** Threads for quantization. */
  threads?: number;
}

/** An engine that can be opened, and how it came to be. */
export interface EnsuredEngine {
  folder: string;
  /** The model's name: the catalogue's, the hub's, or the file's. */
  name: string;
  /** Whether it was built now. */
  built: boolean;
  notes: string[];
}

/**
 * An engine for anything that {@link resolveModel} takes. What is no engine yet is built first, once: engines are kept in the cache by
 * the content of their source, the recipe, the engine format and the ggml release, so a change of any builds anew.
 * @throws NereidError from the resolver, the checkpoint reader or the builder
 */
export async function ensureEngine(
  reference: string,
  options: EnsureEngineOptions = {},
): Promise<EnsuredEngine> {
  const cache = options.cache ?? new Cache();
  const reporter = options.reporter ?? silentReporter;
  const model = await resolveModel(reference, { ...options, cache });
  for (const note of model.notes) reporter.note(note);
  const { name, notes } = model;
  if (model.kind === 'engine')
    return { folder: model.path, name: readEngine(model.path).name, built: false, notes };
  const recipe = recipeFor(model, options.recipe);
  const hash = await contentHash(model.path, (path) => cache.sha256(path, { signal: options.signal }));
  const key = { engineFormatVersion, source: hash.sha256, recipe, ggml: installedGgmlRelease() };
  const folder = cache.engineFolder(name, sha256Text(JSON.stringify(key)));
  if (isSound(folder)) {
    cache.touch(`${folder}/${manifestFileName}`);
    return { folder, name, built: false, notes };
  }
  // A server whose engines are built starts without the builder.
  const { buildEngine } = await import('../builder/build.ts');
  const deadlineMs = Date.now() + waitMaxMs;
  const request = { source: model.path, name, output: folder, recipe, hash, replace: true, reporter };
  for (;;) {
    try {
      reporter.note(`Building the engine of ${name} (kept in ${folder}) …`);
      await cache.makeFolder(cache.root);
      await buildEngine({ ...request, threads: options.threads, signal: options.signal });
      return { folder, name, built: true, notes };
    } catch (thrown) {
      const locked = thrown instanceof NereidError && thrown.code === 'BUILD_OUTPUT_LOCKED';
      if (!locked || Date.now() > deadlineMs) throw thrown;
      reporter.note(`Waiting: ${thrown.message}`);
      if (await waitForOther(folder, deadlineMs, options.signal))
        return { folder, name, built: false, notes };
    }
  }
}

function recipeFor(model: ResolvedModel, given: Partial<BuildRecipe> = {}): BuildRecipe {
  const advised = model.dtype ? { dtype: model.dtype } : {};
  return { ...defaultRecipe, ...advised, ...given };
}

/** Whether a cached engine is there and whole; a damaged one is built again. */
function isSound(folder: string): boolean {
  try {
    readEngine(folder);
    return true;
  } catch {
    return false;
  }
}

/**
 * Waits while another process that lives builds the engine, at most {@link waitTurnMs}: only taking the lock tells for certain.
 * @returns whether it finished the engine; false when it gave up, died or is still at it
 */
async function waitForOther(folder: string, deadlineMs: number, signal?: AbortSignal): Promise<boolean> {
  const endMs = Math.min(deadlineMs, Date.now() + waitTurnMs);
  do {
    await sleep(waitStepMs, undefined, { signal });
    if (isSound(folder)) return true;
  } while (Date.now() < endMs && isBeingBuilt(folder));
  return isSound(folder);
}
