import type { AddressInfo } from 'node:net';
import type { ServerCredentials } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { definite, messageOf } from '../../base/errors.ts';
import type { RunningBriton } from '../../protocol/briton/server.ts';
import { readTls, type TlsMaterial } from '../../protocol/tls.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import { CliError } from '../errors.ts';
import { createProgress } from '../progress.ts';
import { listenBriton } from './briton.ts';
import { type PreparedModel, prepareModels, type RunningModel, startModels, stopModels } from './engines.ts';
import type { createFrontEnd, FrontEnd, ModelText, reload } from './front-end.ts';
import { createLogger } from './log.ts';
import type { MetricsPort } from './metrics-port.ts';
import type { ServeOptions } from './options.ts';
import { checkPorts, portError } from './ports.ts';
import { checkWorld } from './ranks.ts';
import { isReloadable, readSecurity, type Security } from './security.ts';
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
  /** Reads keys and certificates again. */
  reload(): void;
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
  await checkPorts(options);
  threadTracer.start('front-end', true);
  const logger = createLogger(options);
  const security = await readSecurity(options.security);
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
    const http = await listenHttp(
      { options, security, models, logger, notReadyReason: isDraining },
      await loading,
    );
    closers.push(() => http.close());
    const extras = await listenExtras(
      { options, security, models, logger, notReadyReason: isDraining },
      http,
      closers,
    );
    const reloading = (): void => {
      http.reload();
      extras.reload();
    };
    if (isReloadable(options.security)) process.on('SIGHUP', reloading);
    const briton = await listenBritonPort(options, security, models, http, isDraining);
    if (briton) closers.push(() => briton.close());
    announce(options, models, http.port);
    await runSelfTest(options, http.port, logger);
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

/** Without requests' lines meanwhile, which would land in the middle of what is printed. */
async function runSelfTest(
  { host, security, selfTest: prompt }: ServeOptions,
  port: number,
  logger: Logger,
): Promise<void> {
  if (prompt === undefined) return;
  const { level } = logger;
  if (logger.isLevelEnabled('info')) logger.level = 'warn';
  const address = { host, port, secure: security.tls !== undefined, apiKey: security.apiKeys[0] };
  await selfTest(address, prompt);
  // The request's line comes when its response is closed.
  setTimeout(() => {
    logger.level = level;
  }, 100);
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
  reload: typeof reload;
  texts: ModelText[];
}

/** The protocols' modules take longer to load than anything else here, so they are not imported at the top. */
async function loadTexts(models: readonly PreparedModel[], { answers }: ServeOptions): Promise<LoadedTexts> {
  const { createFrontEnd, openModelText, reload } = await import('./front-end.ts');
  return {
    createFrontEnd,
    reload,
    texts: await Promise.all(models.map((model) => openModelText(model.tokenizerFolder, answers))),
  };
}

/** What the ports are opened with. */
interface Listening {
  options: ServeOptions;
  security: Security;
  models: readonly RunningModel[];
  logger: Logger;
  /** Set while the server drains. */
  notReadyReason: () => string | undefined;
}

async function listenHttp(
  { options, security, models, logger, notReadyReason }: Listening,
  { createFrontEnd, reload, texts }: LoadedTexts,
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
    security,
    requestTimeoutSeconds: options.requestTimeoutSeconds,
    answers: options.answers,
    traffic: options.traffic,
    notReadyReason,
  });
  const port = await listen(frontEnd, options);
  return {
    port,
    frontEnd,
    listening: true,
    metricsText: () => frontEnd.metrics.exposition(),
    reload: () => void reload(frontEnd, options.security, logger),
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
  { options, security, models, logger, notReadyReason }: Listening,
  http: HttpSide,
  closers: (() => Promise<void>)[],
): Promise<{ reload(): void }> {
  const { host, grpcPort, metricsPort } = options;
  const { tls } = security;
  if (grpcPort !== undefined) {
    const readiness = (): Record<string, boolean> =>
      readinessOf(models, notReadyReason() === undefined && http.listening);
    const { startGrpcServer } = await import('../../protocol/grpc-server.ts');
    const credentials = tls && (await grpcCredentials(tls));
    const grpc = await startGrpcServer({ host, port: grpcPort, readiness, credentials }).catch(
      (thrown: unknown) => {
        throw portError(thrown, '--grpc-port', grpcPort);
      },
    );
    closers.push(() => grpc.close());
    if (grpcPort === 0) process.stderr.write(`gRPC health on ${host}:${grpc.port}\n`);
  }
  if (metricsPort === undefined) return { reload: () => {} };
  const { MetricsPort } = await import('./metrics-port.ts');
  const metricsText = () => http.metricsText();
  const metrics = await MetricsPort.start({ host, port: metricsPort, tls, metricsText }).catch(
    (thrown: unknown) => {
      throw portError(thrown, '--metrics-port', metricsPort);
    },
  );
  closers.push(() => metrics.close());
  if (metricsPort === 0) process.stderr.write(`metrics on ${host}:${metrics.port}\n`);
  return { reload: () => void reloadTls(metrics, options, logger) };
}

async function listenBritonPort(
  options: ServeOptions,
  { tls }: Security,
  models: readonly RunningModel[],
  http: HttpSide,
  isDraining: () => string | undefined,
): Promise<RunningBriton | undefined> {
  const { britonPort } = options;
  if (britonPort === undefined) return undefined;
  const readiness = (): Record<string, boolean> =>
    readinessOf(models, isDraining() === undefined && http.listening);
  const credentials = tls && (await grpcCredentials(tls));
  return listenBriton(options.host, britonPort, http.frontEnd, readiness, credentials).catch(
    (thrown: unknown) => {
      throw portError(thrown, '--briton-port', britonPort);
    },
  );
}

async function grpcCredentials({ cert, key, ca, requestCert }: TlsMaterial): Promise<ServerCredentials> {
  const { ServerCredentials } = await import('@grpc/grpc-js');
  return ServerCredentials.createSsl(ca ?? null, [{ private_key: key, cert_chain: cert }], requestCert);
}

async function reloadTls(metrics: MetricsPort, { security }: ServeOptions, logger: Logger): Promise<void> {
  if (!security.tls) return;
  try {
    metrics.setTls(await readTls(security.tls));
  } catch (thrown) {
    logger.error({ reason: messageOf(thrown) }, 'the certificate of the metrics port stays as it was');
  }
}

/** @param takesRequests false while the server drains, or no front end listens */
function readinessOf(models: readonly RunningModel[], takesRequests: boolean): Record<string, boolean> {
  const statuses: Record<string, boolean> = {};
  for (const { name, supervisors } of models) {
    statuses[name] = takesRequests && supervisors.some((one) => one.client.ready);
  }
  return { ...statuses, '': takesRequests && Object.values(statuses).every(Boolean) };
}

function announce(options: ServeOptions, models: readonly RunningModel[], port: number): void {
  const names = models.map(({ name }) => name).join(', ');
  const url = `${options.security.tls ? 'https' : 'http'}://${urlHost(options.host)}:${port}`;
  process.stderr.write(`Serving ${names} on ${url}/v1 (OpenAI; Anthropic at ${url})\n`);
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
