import { existsSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { resolveModel } from '../artifact/resolver.ts';
import { buildEngine } from '../builder/build.ts';
import { type BuildConfig, type BuildConfigInput, recipeOf } from '../builder/config.ts';
import { loadBuildConfig } from '../builder/config-file.ts';
import { isEngineFolder, readEngine, verifyEngine } from '../builder/engine-folder.ts';
import type { EngineManifest } from '../builder/manifest.ts';
import { type Reporter, silentReporter } from '../builder/reporter.ts';
import type { BuildFlags } from './build-flags.ts';
import { CliError } from './errors.ts';
import { createProgress, formatBytes } from './progress.ts';

/** Exceptions that are listed one by one; the rest is counted. */
const exceptionsShownMax = 8;

/** Does what `nereid build` was told. */
export async function runBuild(
  model: string | undefined,
  flags: BuildFlags,
  signal: AbortSignal,
): Promise<void> {
  const reporter = flags.quiet ? silentReporter : createProgress();
  const config = placed(loadBuildConfig(flags.config, overrides(model, flags)), model, flags);
  if (flags.random !== undefined) {
    await buildRandom(flags.random, config, flags, signal);
    return;
  }
  if (config.model === undefined) {
    throw new CliError('CLI_ARGUMENT_MISSING', 'what to build from? Give a model, or `model:` in --config');
  }
  if (flags.verify) {
    await verify(config.model, reporter, signal);
    return;
  }
  const source = await resolveModel(config.model, { reporter, signal });
  for (const note of source.notes) reporter.note(note);
  if (source.kind === 'engine') {
    const fix = 'build from the checkpoint, or pass --verify to check the engine';
    throw new CliError('CLI_ARGUMENT_INVALID', `${source.path} is an engine already; ${fix}`);
  }
  const name = config.name ?? source.name;
  const output = resolve(config.output ?? `${name}-engine`);
  const recipe = recipeOf(
    flags.dtype || config.dtype !== 'auto' ? config : { ...config, dtype: source.dtype ?? 'auto' },
  );
  const request = { source: source.path, name, output, recipe, replace: flags.force ?? false };
  const built = await buildEngine({ ...request, reporter, signal, threads: flags.threads });
  if (!flags.quiet) summarize(built.manifest, output, reporter);
}

/** An engine of a shape, for the GPU unless another target is asked for (which is refused). */
async function buildRandom(
  shape: string,
  config: BuildConfig,
  flags: BuildFlags,
  signal: AbortSignal,
): Promise<void> {
  if (config.model !== undefined)
    throw new CliError('CLI_ARGUMENT_INVALID', `--random needs no model; leave out ${config.model}`);
  const name = config.name ?? `random-${shape}`;
  const output = resolve(config.output ?? `${name}-engine`);
  const recipe = recipeOf({ ...config, target: flags.target ?? 'cuda' });
  const { buildRandomEngine } = await import('../builder/build-random.ts');
  const request = { shape, seed: flags.seed, name, output, recipe, replace: flags.force ?? false };
  const { manifest } = await buildRandomEngine({ ...request, signal });
  if (!flags.quiet) summarize(manifest, output, silentReporter);
}

function overrides(model: string | undefined, flags: BuildFlags): BuildConfigInput {
  const { output, name, target, dtype, contextLengthMax, kvDtype, tensorParallel, pipelineParallel } = flags;
  const tensors = Object.entries(flags.tensor ?? {}).map(([pattern, type]) => ({ pattern, dtype: type }));
  const ranks = { tensorParallel, pipelineParallel };
  const given = { model, output, name, target, dtype, contextLengthMax, kvDtype, ...ranks };
  // The schema checks the types that --tensor names; commander cannot.
  return (tensors.length > 0 ? { ...given, tensors } : given) as BuildConfigInput;
}

/** Paths in a config file are relative to that file; those on the command line to the working folder. */
function placed(config: BuildConfig, model: string | undefined, flags: BuildFlags): BuildConfig {
  if (flags.config === undefined) return config;
  const folder = dirname(resolve(flags.config));
  const result = { ...config };
  if (flags.output === undefined && config.output !== undefined)
    result.output = resolve(folder, config.output);
  if (model === undefined && config.model !== undefined && existsSync(join(folder, config.model))) {
    result.model = join(folder, config.model);
  }
  return result;
}

async function verify(path: string, reporter: Reporter, signal: AbortSignal): Promise<void> {
  if (!isEngineFolder(path)) {
    throw new CliError('CLI_ARGUMENT_INVALID', `--verify takes an engine folder; ${path} has no engine.json`);
  }
  const total = readEngine(path).files.reduce((sum, file) => sum + file.bytes, 0);
  reporter.start('Verifying', total);
  const manifest = await verifyEngine(path, { onBytes: (bytes) => reporter.advance(bytes), signal });
  reporter.finish();
  console.log(`${path} is intact: ${manifest.files.length} files, ${formatBytes(total)}`);
}

function summarize(manifest: EngineManifest, output: string, reporter: Reporter): void {
  const { exceptions, tensors } = manifest.quantization;
  for (const { tensor, dtype, reason } of exceptions.slice(0, exceptionsShownMax)) {
    reporter.note(`${tensor} is stored as ${dtype}: ${reason}`);
  }
  if (exceptions.length > exceptionsShownMax) {
    reporter.note(`… and ${exceptions.length - exceptionsShownMax} more tensors (engine.json lists them)`);
  }
  const types = Object.entries(tensors).map(([dtype, count]) => `${count} × ${dtype}`);
  const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
  const shown = relative(process.cwd(), output);
  const where = shown === '' || shown.startsWith('..') ? output : shown;
  console.log(`Built ${where}: ${manifest.architecture}, ${formatBytes(bytes)}, tensors ${types.join(', ')}`);
  console.log(`Serve it: nereid serve ${where}`);
}
