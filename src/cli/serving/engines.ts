import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Logger } from 'pino';
import { ensureEngine } from '../../artifact/resolver.ts';
import { contentHash, readEngine, tokenizerFolderName } from '../../builder/engine-folder.ts';
import type { Reporter } from '../../builder/reporter.ts';
import { deviceOf } from '../../builder/targets.ts';
import type { KvDtype } from '../../device/device.ts';
import type { Parallelism } from '../../models/partition.ts';
import type { EngineProcessConfiguration } from '../../runtime/process/engine-process-messages.ts';
import { EngineSupervisor, type SupervisorEvent } from '../../runtime/process/supervisor.ts';
import type { SpeculationSettings } from '../../runtime/speculation/settings.ts';
import { CliError } from '../errors.ts';
import { type ServeOptions, threadsPerEngine } from './options.ts';
import { checkRanks, parallelismOf, rankRecipe, ranksHere, seatOf } from './ranks.ts';

/** One model with its engine processes running. */
export interface RunningModel {
  name: string;
  aliases: string[];
  /** Of its engine folder. */
  contentHash: string;
  tokenizerFolder: string;
  supervisors: EngineSupervisor[];
}

/** What a model needs before its engines start. */
export interface PreparedModel {
  name: string;
  aliases: string[];
  engineFolder: string;
  /** Of its engine folder. */
  contentHash: string;
  tokenizerFolder: string;
  vocabularySize: number;
  /** The model's own. */
  contextLengthMax: number;
  contextLength: number;
  kvDtype: KvDtype;
  /** What it was built for. */
  target: ReturnType<typeof deviceOf>;
  parallelism: Parallelism;
  /** Of the model that guesses its tokens; absent for none. */
  draftFolder?: string | undefined;
}

/**
 * Resolves and, where needed, downloads and builds each model's engine: the slow part, the first time.
 * @throws NereidError from the resolver or the builder
 */
export async function prepareModels(
  options: ServeOptions,
  reporter: Reporter,
  signal: AbortSignal,
): Promise<PreparedModel[]> {
  const prepared: PreparedModel[] = [];
  for (const [index, reference] of options.models.entries()) {
    prepared.push(await prepare(reference, options, index === 0, reporter, signal));
  }
  return prepared;
}

/**
 * Starts the engine processes of all models; they are forked before this function first waits.
 * @throws NereidError when one cannot start; nothing is left running then
 */
export async function startModels(
  prepared: readonly PreparedModel[],
  options: ServeOptions,
  logger: Logger,
): Promise<RunningModel[]> {
  const ranks = prepared.reduce((sum, model) => sum + ranksHere(options, model.parallelism), 0);
  const threads = threadsPerEngine(options.threads, ranks * options.engines);
  const grant = { threads, memoryShare: 1 / (prepared.length * options.engines) };
  return allOrNone(
    prepared.map((model) => startModel(model, options, grant, logger)),
    (model) => stopModels([model], 0),
  );
}

/** What each engine may take of the machine. */
export interface EngineGrant {
  /** Of each of its ranks. */
  threads: number;
  /** Of the memory that KV caches may take. */
  memoryShare: number;
}

/** Drains and ends every engine. */
export async function stopModels(models: readonly RunningModel[], drainTimeoutMs: number): Promise<void> {
  await Promise.all(
    models.flatMap(({ supervisors }) => supervisors.map((one) => one.close({ drainTimeoutMs }))),
  );
}

async function prepare(
  reference: string,
  options: ServeOptions,
  isFirst: boolean,
  reporter: Reporter,
  signal: AbortSignal,
): Promise<PreparedModel> {
  const engine = await ensureEngine(reference, { reporter, signal, recipe: rankRecipe(options) });
  const manifest = readEngine(engine.folder);
  const name = options.servedModelName ?? engine.name;
  const parallelism = parallelismOf(manifest);
  const draftModel = options.speculation?.draftModel;
  const draft = draftModel === undefined ? undefined : await ensureEngine(draftModel, { reporter, signal });
  checkRanks(options, name, parallelism);
  return {
    name,
    aliases: aliasesOf(options.servedModelName ? name : reference, name, isFirst),
    engineFolder: engine.folder,
    contentHash: contentHash(manifest),
    tokenizerFolder: options.tokenizerFolder ?? `${engine.folder}/${tokenizerFolderName}`,
    vocabularySize: manifest.vocabularySize,
    contextLengthMax: manifest.contextLength,
    contextLength: Math.min(manifest.contextLength, options.contextLength ?? manifest.contextLength),
    kvDtype: options.kvDtype ?? manifest.kvDtype,
    target: deviceOf(manifest),
    parallelism,
    draftFolder: draft?.folder,
  };
}

/** A model answers to the name that it was asked for by as well, unless that is a path; the first one also to `default`. */
function aliasesOf(reference: string, name: string, isFirst: boolean): string[] {
  const names = new Set([...(existsSync(reference) ? [] : [reference]), ...(isFirst ? ['default'] : [])]);
  names.delete(name);
  return [...names];
}

async function startModel(
  model: PreparedModel,
  options: ServeOptions,
  grant: EngineGrant,
  logger: Logger,
): Promise<RunningModel> {
  const { name, aliases, contentHash, tokenizerFolder } = model;
  const configuration = engineConfiguration(model, options, grant);
  const onEvent = (event: SupervisorEvent): void => {
    logger[event.event === 'started' ? 'info' : 'error'](event, `engine ${event.event}`);
  };
  const stepDeadlineMs = options.stepTimeoutSeconds * 1000;
  const supervisors = await allOrNone(
    Array.from({ length: options.engines }, () =>
      EngineSupervisor.start(configuration, {
        onEvent,
        stepDeadlineMs,
        restartsMax: options.restartsInARow,
      }),
    ),
    (supervisor) => supervisor.close(),
  );
  const running = { name, aliases, contentHash, tokenizerFolder, supervisors };
  try {
    checkContext(model, options, supervisors, logger);
  } catch (error) {
    await stopModels([running], 0);
    throw error;
  }
  return running;
}

/** A context below it answers nobody. */
const contextLengthMin = 16;

/**
 * Says where the context is not what was asked for.
 * @throws CliError KV_CACHE_TOO_SMALL where the KV cache leaves hardly any
 */
function checkContext(
  model: PreparedModel,
  options: ServeOptions,
  supervisors: readonly EngineSupervisor[],
  logger: Logger,
): void {
  const asked = options.contextLength ?? 0;
  if (asked > model.contextLengthMax) {
    const message = `--context-length ${asked} is over the ${model.contextLengthMax} positions of '${model.name}', which it has then`;
    logger.warn({ model: model.name }, message);
  }
  const length = Math.min(...supervisors.map((one) => one.client.description.contextLength));
  if (length >= model.contextLength) return;
  const shortened = `the KV cache holds a context of ${length} positions of '${model.name}', not ${model.contextLength}`;
  if (length < Math.min(contextLengthMin, model.contextLength)) {
    throw new CliError('KV_CACHE_TOO_SMALL', `${shortened}; give a larger --kv-cache-size`, { usage: false });
  }
  logger.warn({ model: model.name }, `${shortened}; --kv-cache-size is what it takes`);
}

/** What an engine's process is told: to run it, to start its ranks on this host, or to be one of them. */
export function engineConfiguration(
  model: PreparedModel,
  options: ServeOptions,
  { threads, memoryShare }: EngineGrant,
): Omit<EngineProcessConfiguration, 'socketPath'> {
  const { name, engineFolder, kvDtype, parallelism, vocabularySize, contextLength, target } = model;
  const device = options.device ?? target.name;
  const own = device === target.name ? target.options : {};
  const seat = seatOf(options, parallelism);
  const isGroup = seat === undefined && parallelism.tensor * parallelism.pipeline > 1;
  return {
    name,
    device,
    deviceOptions: { ...own, ...options.deviceOptions },
    // The null device takes the model's vocabulary and context, and none of its weights.
    tokenizerFolder: model.tokenizerFolder,
    engineFolder: device === 'null' ? undefined : engineFolder,
    nullModel: { vocabularySize, contextLength },
    threads,
    slots: options.maxSequences,
    batchTokensMax: options.maxBatchTokens,
    kvDtype,
    kvBytesMax: options.kvCacheBytes,
    kvPositionsMax: options.kvTokensMax,
    kvMemoryShare: options.kvMemoryShare,
    memoryShare,
    contextLength,
    prefixReuse: options.prefixReuse,
    capacityPolicy: options.capacityPolicy,
    kvBlockPositions: options.kvBlockSize,
    kvHostBytesMax: options.kvHostCacheBytes,
    outputBytesMax: options.outputBytesMax,
    inFlightStepsMax: options.stepsInFlight,
    adapters: options.adapters.settings,
    adaptersAtStart: options.adapters.atStart,
    speculation: speculationSettings(options, model),
    ...(isGroup && { group: parallelism }),
    ...(seat && { seat }),
  };
}

function speculationSettings(
  { speculation }: ServeOptions,
  { draftFolder }: PreparedModel,
): SpeculationSettings | undefined {
  if (!speculation) return undefined;
  const { method, draftsMax, lengths, draftHead } = speculation;
  if (method === 'ngram') return { method, draftsMax, lengths };
  if (method === 'draft-head') return { method, draftsMax, headFolder: draftHead && resolve(draftHead) };
  return { method, draftsMax, engineFolder: draftFolder };
}

/** Waits for everything that starts; if one fails, stops the others and throws why. */
async function allOrNone<T>(
  starting: readonly Promise<T>[],
  stop: (started: T) => Promise<void>,
): Promise<T[]> {
  const outcomes = await Promise.allSettled(starting);
  const started = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (!failure) return started;
  await Promise.all(started.map(stop));
  throw failure.reason;
}
