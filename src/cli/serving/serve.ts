import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import pino, { type Logger } from 'pino';
import { definite, messageOf } from '../../base/errors.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import { CliError } from '../errors.ts';
import { createProgress } from '../progress.ts';
import { listenBriton } from './briton.ts';
import { type PreparedModel, prepareModels, type RunningModel, startModels, stopModels } from './engines.ts';
import type { createFrontEnd, FrontEnd, ModelText } from './front-end.ts';
import type { ServeOptions } from './options.ts';
import { checkWorld } from './ranks.ts';
import { selfTest } from './self-test.ts';
import { stopSignal } from './stop-signal.ts';

/** What answers HTTP: one front end in this process, or several in processes of their own. */
interface HttpSide {
  port: number;
  /** The front end in this process; undefined where several share the port. */
  frontEnd?: FrontEnd;
  /** Whether anybody answers there now. */
  readonly listening: boolean;
  metricsText: () => Promise<{ text: string; contentType: string }>;
  /** Refuses new requests, still listening, and waits for the running ones. */
  drain(timeoutMs: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * Runs a server until it is told to stop; resolves when it has.
 * @throws CliError, or a NereidError of the layer that could not start
 */
export async function serve(options: ServeOptions): Promise<void> {
  checkCombination(options);
  checkWorld(options);
  if (options.rank !== undefined && options.rank > 0) {
    const { serveRank } = await import('./follow.ts');
    await serveRank(options);
    return;
  }
  threadTracer.start('front-end', true);
  const logger = pino(
    { level: options.logLevel, base: undefined },
    pino.destination({ dest: 2, sync: false }),
  );
  const stop = stopSignal();
  const reporter = createProgress();
  const prepared = await prepareModels(options, reporter, stop.starting);
  const starting = startModels(prepared, options, logger);
  // The engines load on other cores meanwhile; a failure of theirs is reported first.
  const loading = loadTexts(prepared, options);
  loading.catch(() => {});
  const models = await starting;
  const closers: (() => Promise<void>)[] = [];
  let drainTimeoutMs = 0;
  try {
    const isDraining = (): string | undefined => (stop.requested ? 'the server is shutting down' : undefined);
    const http = await listenHttp(options, models, await loading, logger, isDraining);
    closers.push(() => http.close());
    await listenExtras(options, models, http, closers, isDraining);
    const readiness = (): Record<string, boolean> =>
      readinessOf(models, isDraining() === undefined && http.listening);
    const briton = await listenBriton(options, http.frontEnd, readiness).catch((thrown: unknown) => {
      throw portError(thrown, '--briton-port', options.britonPort ?? 0);
    });
    if (briton) closers.push(() => briton.close());
    announce(options, models, http.port);
    if (options.selfTest !== undefined) {
      await selfTest({ host: options.host, port: http.port, apiKey: options.apiKeys[0] }, options.selfTest);
    }
    await stop.wait();
    logger.info({ drainSeconds: options.drainSeconds }, 'stopping: running requests may finish');
    const drainStartMs = performance.now();
    const timeoutMs = options.drainSeconds * 1000;
    await Promise.all([http.drain(timeoutMs), briton?.drain(timeoutMs)]);
    // What is left of it is for protocols on other ports.
    drainTimeoutMs = Math.max(0, options.drainSeconds * 1000 - (performance.now() - drainStartMs));
  } finally {
    // Several front ends have connections of their own: their engines must outlive them.
    const closing = Promise.all(closers.map((close) => close()));
    if (options.frontEnds > 1) await closing;
    await Promise.all([stopModels(models, drainTimeoutMs), closing]);
  }
}

function checkCombination(options: ServeOptions): void {
  if (options.servedModelName && options.models.length > 1) {
    throw new CliError(
      'CLI_VALUE_INVALID',
      '--served-model-name names one model; serve one, or leave it out',
    );
  }
  if (options.britonPort !== undefined && options.frontEnds > 1) {
    throw new CliError(
      'CLI_VALUE_INVALID',
      "Briton's port is served by one front end; leave out --front-ends, or serve Briton by a process of its own",
    );
  }
  if (options.maxBatchTokens < options.maxSequences) {
    throw new CliError(
      'CLI_VALUE_INVALID',
      `--max-batch-tokens ${options.maxBatchTokens} is less than --max-sequences ${options.maxSequences}; each sequence needs a token a step`,
    );
  }
}

/** The front end's code and each model's text side. */
interface LoadedTexts {
  createFrontEnd: typeof createFrontEnd;
  texts: ModelText[];
}

/** The protocols' modules take longer to load than anything else here, so they are not imported at the top. */
async function loadTexts(models: readonly PreparedModel[], { answers }: ServeOptions): Promise<LoadedTexts> {
  const { createFrontEnd, openModelText } = await import('./front-end.ts');
  return {
    createFrontEnd,
    texts: await Promise.all(models.map((model) => openModelText(model.tokenizerFolder, answers))),
  };
}

async function listenHttp(
  options: ServeOptions,
  models: readonly RunningModel[],
  { createFrontEnd, texts }: LoadedTexts,
  logger: Logger,
  notReadyReason: () => string | undefined,
): Promise<HttpSide> {
  if (options.frontEnds > 1) {
    const { FrontEndCluster } = await import('./front-end-cluster.ts');
    return FrontEndCluster.start(options, models, logger);
  }
  const frontEnd = createFrontEnd({
    models: models.map(({ name, aliases, supervisors }, index) => ({
      name,
      aliases,
      text: definite(texts[index], 'the text side'),
      clients: supervisors.map((one) => one.client),
    })),
    logger,
    apiKeys: options.apiKeys,
    requestTimeoutSeconds: options.requestTimeoutSeconds,
    answers: options.answers,
    notReadyReason,
  });
  const port = await listen(frontEnd, options);
  return {
    port,
    frontEnd,
    listening: true,
    metricsText: () => frontEnd.metrics.exposition(),
    drain: (timeoutMs) => frontEnd.drain(timeoutMs),
    close: () => frontEnd.close(),
  };
}

async function listen(frontEnd: FrontEnd, { host, httpPort }: ServeOptions): Promise<number> {
  try {
    await frontEnd.http.listen({ host, port: httpPort });
  } catch (thrown) {
    await frontEnd.close();
    throw portError(thrown, '--http-port', httpPort);
  }
  return (frontEnd.http.server.address() as AddressInfo).port;
}

/** The ports that were asked for beside HTTP. */
async function listenExtras(
  options: ServeOptions,
  models: readonly RunningModel[],
  http: HttpSide,
  closers: (() => Promise<void>)[],
  drainingReason: () => string | undefined,
): Promise<void> {
  const { host, grpcPort, metricsPort } = options;
  if (grpcPort !== undefined) {
    const readiness = (): Record<string, boolean> =>
      readinessOf(models, drainingReason() === undefined && http.listening);
    const { startGrpcServer } = await import('../../protocol/grpc-server.ts');
    const grpc = await startGrpcServer({ host, port: grpcPort, readiness }).catch((thrown: unknown) => {
      throw portError(thrown, '--grpc-port', grpcPort);
    });
    closers.push(() => grpc.close());
    if (grpcPort === 0) process.stderr.write(`gRPC health on ${host}:${grpc.port}\n`);
  }
  if (metricsPort === undefined) return;
  const server = createServer((request, response) => {
    if (request.url?.split('?')[0] !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('this port has only /metrics\n');
      return;
    }
    http.metricsText().then(
      ({ text, contentType }) => response.writeHead(200, { 'content-type': contentType }).end(text),
      (thrown: unknown) =>
        response.writeHead(500, { 'content-type': 'text/plain' }).end(`${messageOf(thrown)}\n`),
    );
  });
  server.listen(metricsPort, host);
  await once(server, 'listening').catch((thrown: unknown) => {
    throw portError(thrown, '--metrics-port', metricsPort);
  });
  closers.push(() => closeServer(server));
  if (metricsPort === 0)
    process.stderr.write(`metrics on ${host}:${(server.address() as AddressInfo).port}\n`);
}

function closeServer(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}

/** @param takesRequests false while the server drains, or no front end listens */
function readinessOf(models: readonly RunningModel[], takesRequests: boolean): Record<string, boolean> {
  const statuses: Record<string, boolean> = {};
  for (const { name, supervisors } of models) {
    statuses[name] = takesRequests && supervisors.some((one) => one.client.ready);
  }
  return { ...statuses, '': takesRequests && Object.values(statuses).every(Boolean) };
}

function portError(thrown: unknown, flag: string, port: number): CliError {
  const inUse = /EADDRINUSE|address already in use/i.test(messageOf(thrown));
  const message = inUse
    ? `port ${port} is in use; stop what listens there, or give another ${flag} (0 picks a free one)`
    : `cannot listen on port ${port}: ${messageOf(thrown)}; give another ${flag} or --host`;
  return new CliError(inUse ? 'PORT_IN_USE' : 'PORT_UNAVAILABLE', message, { cause: thrown, usage: false });
}

function announce(options: ServeOptions, models: readonly RunningModel[], port: number): void {
  const names = models.map(({ name }) => name).join(', ');
  process.stderr.write(`Serving ${names} on http://${urlHost(options.host)}:${port} (OpenAI protocol)\n`);
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
