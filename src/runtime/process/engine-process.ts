/**
 * The engine process: one engine, its device and its loop. Started by the supervisor (see `supervisor.ts`), configured by the first
 * IPC message, serving front ends over a socket. Compute never shares a process with the network: ggml aborts the whole process on
 * a failed assertion, and a GPU fault poisons its context.
 */

import { messageOf, NereidError } from '../../base/errors.ts';
import type { OpenedEngine } from '../../builder/open-engine.ts';
import type { Device, DeviceModelSource } from '../../device/device.ts';
import { devices } from '../../device/registry.ts';
import type { ModelLinear } from '../../models/linears.ts';
import type { Parallelism } from '../../models/partition.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import { EngineCore } from '../loop/engine-core.ts';
import { FileStore } from '../outputs/file-segment.ts';
import { outputBytesMaxDefault } from '../outputs/output-store.ts';
import type { RankSeat, TakenSeat } from '../ranks/seat.ts';
import type { SpeculationSettings } from '../speculation/settings.ts';
import type { SpeculationOptions } from '../speculation/speculation.ts';
import { EngineServer } from '../transport/engine-server.ts';
import type { EngineGroup } from './engine-group.ts';
import type {
  EngineProcessConfiguration,
  EngineProcessMessage,
  SupervisorMessage,
} from './engine-process-messages.ts';
import { loadModel } from './load-model.ts';
import { dieWithParent } from './parent-death.ts';

/** Refused connections of ranks that are logged. */
const refusalsToldMax = 20;

let isBusy = false;
/** Where the engine is divided among ranks on this host. */
let group: EngineGroup | undefined;

/** A model, and the linears that its adapters may change. */
type LoadedSource = { source: DeviceModelSource; linears?: () => ModelLinear[] };

async function loadSource(configuration: EngineProcessConfiguration): Promise<LoadedSource> {
  if (configuration.engineFolder !== undefined) {
    return openFolder(configuration.engineFolder, configuration.seat?.rank);
  }
  const { nullModelSource } = await import('../../device/null/index.ts');
  const { seat, nullModel } = configuration;
  if (!seat) return { source: nullModelSource(nullModel) };
  const { isInLastStage } = await import('../ranks/seat.ts');
  return { source: nullModelSource(nullModel, !isInLastStage(seat)) };
}

async function openFolder(folder: string, rank = 0): Promise<OpenedEngine> {
  const { openEngine } = await import('../../builder/open-engine.ts');
  return openEngine(folder, { rank });
}

async function start(configuration: EngineProcessConfiguration): Promise<void> {
  const { group, seat, engineFolder } = configuration;
  if (group) {
    await startGroup(configuration, group);
    return;
  }
  threadTracer.start('engine', false);
  const { source, linears } = await loadSource(configuration);
  const taken = seat && (await take(seat, engineFolder));
  if (taken && seat.rank > 0) {
    await follow(taken, source, configuration);
    return;
  }
  const lead = taken && (await leading(taken));
  const speculation = await speculationOf(configuration, source);
  const { model, options } = await loadModel(configuration.name, source, configuration, lead);
  const { tokenizerFolder } = configuration;
  const vocabulary = tokenizerFolder === undefined ? undefined : { folder: tokenizerFolder };
  const { openAdapters } = await import('../adapters/open.ts');
  const adapters = await openAdapters(model.adapters, configuration, linears);
  const outputs = new FileStore(configuration.outputBytesMax ?? outputBytesMaxDefault);
  const server = new EngineServer(
    (emit, onRunnable) =>
      new EngineCore(model, { ...options, adapters, speculation, vocabulary, outputs, onRunnable }, emit),
    fail,
    (busy) => {
      isBusy = busy;
      send({ kind: 'heartbeat', busy });
    },
    adapters,
    outputs,
  );
  await server.listen(configuration.socketPath);
  send({ kind: 'ready' });
}

/** What guesses tokens, where the configuration asks for it; loaded before the model, which takes what memory is left. */
async function speculationOf(
  configuration: EngineProcessConfiguration,
  source: DeviceModelSource,
): Promise<SpeculationOptions | undefined> {
  const { speculation } = configuration;
  if (!speculation) return undefined;
  const { loadSpeculation } = await import('./load-speculation.ts');
  const draft = await draftSourceOf(speculation, source);
  // On the null device both are the same model, which knows no weights.
  return loadSpeculation(
    speculation,
    source,
    configuration.device === 'null' ? source : draft,
    configuration,
  );
}

async function draftSourceOf(
  speculation: SpeculationSettings,
  target: DeviceModelSource,
): Promise<DeviceModelSource | undefined> {
  if (speculation.method === 'draft-head' && speculation.headFolder !== undefined) {
    const { openDraftHead } = await import('../../builder/open-draft-head.ts');
    return openDraftHead(speculation.headFolder, target);
  }
  const folder = speculation.method === 'draft-model' ? speculation.engineFolder : undefined;
  return folder === undefined ? undefined : (await openFolder(folder)).source;
}

/** This process watches over one process a rank. */
async function startGroup(
  configuration: EngineProcessConfiguration,
  parallelism: Parallelism,
): Promise<void> {
  const { EngineGroup } = await import('./engine-group.ts');
  const started = new EngineGroup(configuration, parallelism, fail);
  process.on('exit', () => started.end());
  group = started;
  await started.whenReady();
  send({ kind: 'ready' });
}

async function take(seat: RankSeat, engineFolder: string | undefined): Promise<TakenSeat> {
  const { takeSeat } = await import('../ranks/seat.ts');
  let told = 0;
  return takeSeat(seat, engineFolder, (reason) => {
    // Strangers on an open port must not fill the log.
    if (told++ < refusalsToldMax) process.stderr.write(`a rank's connection was refused: ${reason}\n`);
  });
}

/** Rank 0: what it loads and runs, all ranks do. */
async function leading(taken: TakenSeat): Promise<(device: Device) => Device> {
  const { leaderDevice } = await import('../ranks/leader-device.ts');
  taken.group.mesh.onLost(fail);
  return (device) => leaderDevice(device, taken);
}

async function follow(
  { group: own, collective }: TakenSeat,
  source: DeviceModelSource,
  configuration: EngineProcessConfiguration,
): Promise<never> {
  const { followLeader } = await import('../ranks/follow.ts');
  const { threads, deviceOptions } = configuration;
  return followLeader({
    group: own,
    collective,
    source,
    threads,
    openDevice: async (name) => (await devices.load(name)).openDevice(deviceOptions),
    onReady: () => send({ kind: 'ready' }),
  });
}

function send(message: EngineProcessMessage): void {
  if (process.connected) process.send?.(message);
}

function fail(thrown: unknown): void {
  const code = thrown instanceof NereidError ? thrown.code : 'ENGINE_FAILED';
  const kind = thrown instanceof NereidError ? thrown.kind : 'internal';
  const message: EngineProcessMessage = { kind: 'failed', code, errorKind: kind, message: messageOf(thrown) };
  if (!process.connected || !process.send) process.exit(1);
  process.send(message, () => process.exit(1));
}

/** A group answers when all of its ranks have, and when its first one begins a step, in which it may be silent for long. */
function answer(): void {
  if (!group) {
    send({ kind: 'heartbeat', busy: isBusy });
    return;
  }
  const { alive, busy } = group.ping();
  if (!alive && busy === isBusy) return;
  isBusy = busy;
  send({ kind: 'heartbeat', busy });
}

// Ctrl-C reaches the whole foreground group: the front end drains and closes the channel, which is what ends this process.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.on('disconnect', () => process.exit(0));
process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
process.on('message', (message: SupervisorMessage) => {
  if (message.kind === 'ping') answer();
  else if (message.kind === 'configure') {
    dieWithParent();
    start(message.configuration).catch(fail);
  }
});
