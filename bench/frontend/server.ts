/** The benchmark's server process: Nereid's front end with its engine process behind it, as `nereid serve` runs them, or the bare one. */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import pino from 'pino';
import { messageOf } from '../../src/base/errors.ts';
import { bodyBytesMax } from '../../src/base/limits.ts';
import { createFrontEnd, openModelText } from '../../src/cli/serving/front-end.ts';
import { openRepository } from '../../src/repository/repository.ts';
import { EngineSupervisor } from '../../src/runtime/process/supervisor.ts';
import { bareServer } from './bare-server.ts';
import type { CpuAnswer, CpuQuestion, ServerReady, ServerSetup } from './messages.ts';

let enginePid: number | undefined;

/** Seconds of CPU time of a process, as Linux counts them: user and system, in clock ticks of 10 ms. */
function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function nereidServer(setup: ServerSetup): Promise<FastifyInstance> {
  const { vocabularySize, contextLength, tokenizerFolder, streams, stepMs } = setup;
  const supervisor = await EngineSupervisor.start({
    name: 'bench',
    device: 'null',
    deviceOptions: { 'step-ms': String(stepMs) },
    nullModel: { vocabularySize, contextLength },
    threads: 1,
    slots: streams,
    batchTokensMax: 2048,
    kvDtype: 'f16',
    kvBytesMax: 1024 ** 3,
    prefixReuse: true,
  });
  enginePid = supervisor.pid;
  const engines = { acquire: () => Promise.reject(new Error('this benchmark has no other models')) };
  const repository = await openRepository({ folders: [], engines });
  const answers = { trustRequestChatTemplate: false };
  const text = await openModelText(tokenizerFolder, answers);
  const frontEnd = createFrontEnd({
    models: [{ name: 'bench', aliases: [], tokenizerFolder, text, clients: [supervisor.client] }],
    kserve: {
      httpInputBytesMax: bodyBytesMax,
      serverId: 'bench',
      httpRestrictions: [],
      grpcRestrictions: [],
    },
    repository,
    logger: pino({ level: 'info' }, pino.destination({ dest: '/dev/null', sync: false })),
    security: { keys: [], corsOrigins: [] },
    requestTimeoutSeconds: 0,
    answers,
    traffic: { streamInterval: setup.streamInterval },
    notReadyReason: () => undefined,
  });
  return frontEnd.http;
}

async function start(setup: ServerSetup): Promise<void> {
  const app = setup.kind === 'nereid' ? await nereidServer(setup) : bareServer();
  await app.listen({ port: 0, host: '127.0.0.1' });
  const ready: ServerReady = { port: (app.server.address() as AddressInfo).port };
  process.send?.(ready);
}

process.on('message', (message: ServerSetup | CpuQuestion) => {
  if (message.kind === 'cpu') {
    const { user, system } = process.cpuUsage();
    const engine = enginePid === undefined ? 0 : cpuSecondsOf(enginePid);
    process.send?.({ frontEnd: (user + system) / 1e6, engine } satisfies CpuAnswer);
    return;
  }
  start(message).catch((error: unknown) => {
    console.error(`server: ${messageOf(error)}`);
    process.exit(1);
  });
});
process.on('disconnect', () => process.exit(0));
