/**
 * The engine process: one engine, its device and its loop. Started by the supervisor (see `supervisor.ts`), configured by the first
 * IPC message, serving front ends over a socket. Compute never shares a process with the network: ggml aborts the whole process on
 * a failed assertion, and a GPU fault poisons its context.
 */

import { messageOf, NereidError } from '../../base/errors.ts';
import type { DeviceModelSource } from '../../device/device.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import { EngineCore } from '../loop/engine-core.ts';
import { EngineServer } from '../transport/engine-server.ts';
import type {
  EngineProcessConfiguration,
  EngineProcessMessage,
  SupervisorMessage,
} from './engine-process-messages.ts';
import { loadModel } from './load-model.ts';
import { dieWithParent } from './parent-death.ts';

let isBusy = false;

async function loadSource(configuration: EngineProcessConfiguration): Promise<DeviceModelSource> {
  if (configuration.engineFolder !== undefined) {
    const { openEngine } = await import('../../builder/open-engine.ts');
    return (await openEngine(configuration.engineFolder)).source;
  }
  const { nullModelSource } = await import('../../device/null/index.ts');
  return nullModelSource(configuration.nullModel);
}

async function start(configuration: EngineProcessConfiguration): Promise<void> {
  threadTracer.start('engine', false);
  const source = await loadSource(configuration);
  const { model, options } = await loadModel(configuration.name, source, configuration);
  const server = new EngineServer(
    (emit, onRunnable) => new EngineCore(model, { ...options, onRunnable }, emit),
    fail,
    (busy) => {
      isBusy = busy;
      send({ kind: 'heartbeat', busy });
    },
  );
  await server.listen(configuration.socketPath);
  send({ kind: 'ready' });
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

// Ctrl-C reaches the whole foreground group: the front end drains and closes the channel, which is what ends this process.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.on('disconnect', () => process.exit(0));
process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
process.on('message', (message: SupervisorMessage) => {
  if (message.kind === 'ping') send({ kind: 'heartbeat', busy: isBusy });
  else if (message.kind === 'configure') {
    dieWithParent();
    start(message.configuration).catch(fail);
  }
});
