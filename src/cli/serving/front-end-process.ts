/** A front-end process of `nereid serve --front-ends N`: the same front end, over the same engines' sockets, sharing the HTTP port. */
import type { AddressInfo } from 'node:net';
import { messageOf } from '../../base/errors.ts';
import { listenBacklog } from '../../protocol/limits.ts';
import { RemoteEngine } from '../../runtime/transport/remote-client.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import { createFrontEnd, openModelText, reload } from './front-end.ts';
import type { ControlMessage, FrontEndConfiguration, FrontEndMessage } from './front-end-messages.ts';
import { keepRequestsYoung } from './heap.ts';
import { shareKeyUse } from './key-sharing.ts';
import { createLogger, surviveLostOutput } from './log.ts';
import { MetricsOfAll } from './metrics-of-all.ts';
import { RemoteResponses } from './remote-responses.ts';
import { readSecurity } from './security.ts';
import { openServed } from './served-models.ts';

surviveLostOutput();
keepRequestsYoung();
let draining = false;

function send(message: FrontEndMessage): void {
  if (process.connected) process.send?.(message);
}

async function start(configuration: FrontEndConfiguration): Promise<void> {
  threadTracer.start('front-end', false);
  const logger = createLogger(configuration, { frontEnd: process.pid });
  const models = await Promise.all(
    configuration.models.map(async ({ socketPaths, ...model }) => ({
      ...model,
      clients: socketPaths.map((path) => new RemoteEngine(path)),
      text: await openModelText(model.tokenizerFolder, configuration.answers),
    })),
  );
  const clients = models.flatMap((model) => model.clients);
  await Promise.all(clients.map((client) => client.whenReady()));
  const notReadyReason = (): string | undefined => (draining ? 'the server is shutting down' : undefined);
  const served = await openServed(models, logger);
  const responses = new RemoteResponses(send);
  const metricsOfAll = new MetricsOfAll(send);
  const frontEnd = createFrontEnd({
    models,
    responses,
    metricsOfAll: () => metricsOfAll.ask(),
    logger,
    security: await readSecurity(configuration.security),
    requestTimeoutSeconds: configuration.requestTimeoutSeconds,
    answers: configuration.answers,
    traffic: configuration.traffic,
    notReadyReason,
    kserve: configuration.kserve,
    repository: served.repository,
  });
  const { registry } = frontEnd.metrics;
  if (frontEnd.keys) shareKeyUse(frontEnd.keys, (changes) => send({ kind: 'key-use', changes }));
  process.on('message', (message: ControlMessage) => {
    if (message.kind === 'response') responses.hear(message);
    else if (message.kind === 'metrics-of-all') metricsOfAll.hear(message);
    else if (message.kind === 'key-use') frontEnd.keys?.usedElsewhere(message.changes);
    else if (message.kind === 'drain' && !draining) {
      draining = true;
      void frontEnd.drain(message.timeoutMs).then(() => send({ kind: 'drained' }));
    } else if (message.kind === 'close') {
      const closing = [
        frontEnd.close().then(() => served.close()),
        ...clients.map((client) => client.close()),
      ];
      void Promise.all(closing).then(() => process.exit(0));
    } else if (message.kind === 'reload') {
      void reload(frontEnd, configuration.security, logger);
    } else if (message.kind === 'metrics') {
      const { number } = message;
      void registry.getMetricsAsJSON().then((metrics) => send({ kind: 'metrics', number, metrics }));
    }
  });
  const { host, httpPort, grpcPort, britonPort, britonSchemas: schemas } = configuration;
  await frontEnd.http.listen({ host, port: httpPort, backlog: listenBacklog });
  const { port } = frontEnd.http.server.address() as AddressInfo;
  const grpc = grpcPort === undefined ? undefined : await frontEnd.listenGrpc({ host, port: grpcPort });
  const briton =
    britonPort === undefined ? undefined : await frontEnd.listenBriton({ host, port: britonPort, schemas });
  send({ kind: 'listening', port, grpcPort: grpc, britonPort: briton });
}

// Ctrl-C reaches the whole foreground group; the primary decides what it means.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.on('SIGHUP', () => {});
process.on('disconnect', () => process.exit(0));
process.on('message', (message: ControlMessage) => {
  if (message.kind === 'ping') send({ kind: 'alive' });
  if (message.kind !== 'configure') return;
  start(message.configuration).catch((thrown: unknown) => {
    send({ kind: 'failed', message: messageOf(thrown) });
    setTimeout(() => process.exit(1), 100);
  });
});
send({ kind: 'online' });
