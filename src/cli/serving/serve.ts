import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { definite, messageOf } from '../../base/errors.ts';
import { listenBacklog } from '../../protocol/limits.ts';
import { readTls } from '../../protocol/tls.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import { CliError } from '../errors.ts';
import { createProgress } from '../progress.ts';
import { announce } from './announce.ts';
import { type PreparedModel, prepareModels, type RunningModel, startModels, stopModels } from './engines.ts';
import type { createFrontEnd, FrontEnd, ModelText, openModelText, reload } from './front-end.ts';
import type { FrontEndPorts } from './front-end-slot.ts';
import { keepRequestsYoung } from './heap.ts';
import { createLogger, surviveLostOutput } from './log.ts';
import type { MetricsPort } from './metrics-port.ts';
import type { OpenRepository } from './model-repository.ts';
import type { ServeOptions } from './options.ts';
import { checkPorts, portError } from './ports.ts';
import { checkWorld } from './ranks.ts';
import { isReloadable, readSecurity, type Security } from './security.ts';
import { selfTest } from './self-test.ts';
import type { openServed } from './served-models.ts';
import { stopSignal } from './stop-signal.ts';

/** What answers clients: one front end in this process, or several in processes of their own. */
interface HttpSide extends FrontEndPorts {
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
  surviveLostOutput();
  keepRequestsYoung();
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
  let repository: OpenRepository | undefined;
  try {
    const isDraining = (): string | undefined => (stop.requested ? 'the server is shutting down' : undefined);
    if (options.repository) {
      const { openModelRepository } = await import('./model-repository.ts');
      repository = await openModelRepository(options.repository, options, logger, stop.starting);
    }
    const listening = { options, security, models, repository, logger, notReadyReason: isDraining };
    const http = await listenHttp(listening, await loading);
    closers.push(() => http.close());
    const metrics = await listenMetrics(listening, http, closers);
    const reloading = (): void => {
      http.reload();
      if (metrics) void reloadTls(metrics, options, logger);
    };
    if (isReloadable(options.security)) process.on('SIGHUP', reloading);
    announce(options, models, { ...http, metricsPort: metrics?.port });
    await runSelfTest(options, http.port, logger);
    await stop.wait();
    logger.info({ drainSeconds: options.drainSeconds }, 'stopping: running requests may finish');
    const drainStartMs = performance.now();
    const timeoutMs = options.drainSeconds * 1000;
    await http.drain(timeoutMs);
    // What is left of it is for protocols on other ports.
    drainTimeoutMs = Math.max(0, options.drainSeconds * 1000 - (performance.now() - drainStartMs));
  } finally {
    // Several front ends have connections of their own: their engines must outlive them.
    const closing = Promise.all(closers.map((close) => close()));
    if (options.frontEnds > 1) await closing;
    await Promise.all([stopModels(models, drainTimeoutMs), repository?.close(drainTimeoutMs), closing]);
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
  if (options.britonPort !== undefined && options.models.length === 0) {
    throw new CliError('CLI_VALUE_INVALID', '--briton-port serves a model; name one on the command line');
  }
  if (options.repository && options.frontEnds > 1) {
    throw new CliError(
      'CLI_VALUE_INVALID',
      '--model-repository is served by one front end; leave out --front-ends, or serve its engines as models',
    );
  }
  if (options.device === 'cuda' && options.kvDtype !== undefined && options.kvDtype !== 'fp8') {
    throw new CliError(
      'CLI_VALUE_INVALID',
      '--kv-dtype on cuda is fp8, or left out: the KV cache is then of the type of its activations',
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
  openModelText: typeof openModelText;
  reload: typeof reload;
  openServed: typeof openServed;
  texts: ModelText[];
}

/** The protocols' modules take longer to load than anything else here, so they are not imported at the top. */
async function loadTexts(
  models: readonly PreparedModel[],
  { answers, grpcPort }: ServeOptions,
): Promise<LoadedTexts> {
  const [{ createFrontEnd, openModelText, reload }, { openServed }] = await Promise.all([
    import('./front-end.ts'),
    import('./served-models.ts'),
    // Not needed yet, but the engines leave time for it now.
    grpcPort !== undefined && import('../../protocol/grpc-server.ts'),
    grpcPort !== undefined && import('../../protocol/triton/grpc.ts'),
  ]);
  return {
    createFrontEnd,
    openModelText,
    reload,
    openServed,
    texts: await Promise.all(models.map((model) => openModelText(model.tokenizerFolder, answers))),
  };
}

/** What the ports are opened with. */
interface Listening {
  options: ServeOptions;
  security: Security;
  models: readonly RunningModel[];
  /** Of `--model-repository`. */
  repository: OpenRepository | undefined;
  logger: Logger;
  /** Set while the server drains. */
  notReadyReason: () => string | undefined;
}

async function listenHttp(
  { options, security, models, repository: opened, logger, notReadyReason }: Listening,
  { createFrontEnd, openModelText, reload, openServed, texts }: LoadedTexts,
): Promise<HttpSide> {
  if (options.frontEnds > 1) {
    const { FrontEndCluster } = await import('./front-end-cluster.ts');
    return FrontEndCluster.start(options, models, logger);
  }
  const served = models.map(({ name, aliases, contentHash, tokenizerFolder, supervisors }, index) => ({
    name,
    aliases,
    contentHash,
    tokenizerFolder,
    text: definite(texts[index], 'the text side'),
    clients: supervisors.map((one) => one.client),
  }));
  const names = served.flatMap(({ name, aliases }) => [name, ...aliases]);
  const openText = (tokenizerFolder: string) => openModelText(tokenizerFolder, options.answers);
  const ofRepository = opened ? await opened.frontEndModels(names, openText) : [];
  const inMemory = opened ? undefined : await openServed(served, logger);
  const frontEnd = createFrontEnd({
    models: [...served, ...ofRepository],
    logger,
    security,
    requestTimeoutSeconds: options.requestTimeoutSeconds,
    answers: options.answers,
    traffic: options.traffic,
    notReadyReason,
    kserve: options.kserve,
    repository: definite(opened ?? inMemory, 'a repository').repository,
  });
  const ports = await listen(frontEnd, options);
  return {
    ...ports,
    listening: true,
    metricsText: () => frontEnd.metrics.exposition(),
    reload: () => void reload(frontEnd, options.security, logger),
    drain: (timeoutMs) => frontEnd.drain(timeoutMs),
    close: async () => {
      await frontEnd.close();
      await inMemory?.close();
    },
  };
}

async function listen(
  frontEnd: FrontEnd,
  { host, httpPort, grpcPort, britonPort, britonSchemas: schemas }: ServeOptions,
): Promise<FrontEndPorts> {
  const failed = async (thrown: unknown, flag: string, port: number): Promise<never> => {
    await frontEnd.close();
    throw portError(thrown, flag, port);
  };
  await frontEnd.http
    .listen({ host, port: httpPort, backlog: listenBacklog })
    .catch((thrown: unknown) => failed(thrown, '--http-port', httpPort));
  const { port } = frontEnd.http.server.address() as AddressInfo;
  const opened = async (
    open: (address: { host: string; port: number }) => Promise<number>,
    flag: string,
    asked: number | undefined,
  ): Promise<number | undefined> =>
    asked === undefined
      ? undefined
      : open({ host, port: asked }).catch((thrown: unknown) => failed(thrown, flag, asked));
  return {
    port,
    grpcPort: await opened(frontEnd.listenGrpc, '--grpc-port', grpcPort),
    britonPort: await opened(
      (address) => frontEnd.listenBriton({ ...address, schemas }),
      '--briton-port',
      britonPort,
    ),
  };
}

/** The port of its own for metrics, if one was asked for. */
async function listenMetrics(
  { options: { host, metricsPort }, security: { tls } }: Listening,
  http: HttpSide,
  closers: (() => Promise<void>)[],
): Promise<MetricsPort | undefined> {
  if (metricsPort === undefined) return undefined;
  const { MetricsPort } = await import('./metrics-port.ts');
  const metricsText = () => http.metricsText();
  const metrics = await MetricsPort.start({ host, port: metricsPort, tls, metricsText }).catch(
    (thrown: unknown) => {
      throw portError(thrown, '--metrics-port', metricsPort);
    },
  );
  closers.push(() => metrics.close());
  return metrics;
}

/** The certificates of ports that are not the front end's. */
async function reloadTls(metrics: MetricsPort, { security }: ServeOptions, logger: Logger): Promise<void> {
  if (!security.tls) return;
  try {
    metrics.setTls(await readTls(security.tls));
  } catch (thrown) {
    logger.error({ reason: messageOf(thrown) }, 'the certificate of the metrics port stays as it was');
  }
}
