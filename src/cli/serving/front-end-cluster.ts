import cluster, { type Worker } from 'node:cluster';
import type { Logger } from 'pino';
import { AggregatorRegistry } from 'prom-client';
import { entryPoint } from '../../base/entry.ts';
import { RestartBudget } from '../../runtime/process/restart-budget.ts';
import { CliError } from '../errors.ts';
import type { RunningModel } from './engines.ts';
import type { ControlMessage, FrontEndConfiguration, FrontEndMessage } from './front-end-messages.ts';
import type { ServeOptions } from './options.ts';

/**
 * Several front-end processes over the same engines (`node:cluster` shares the port: Node 20 has no `reusePort`). One that dies is
 * started again; its requests' engines notice the closed connection and cancel them.
 */
export class FrontEndCluster {
  readonly port: number;
  readonly #configuration: FrontEndConfiguration;
  readonly #logger: Logger;
  readonly #aggregator = new AggregatorRegistry();
  readonly #budget = new RestartBudget();
  #closing = false;

  private constructor(configuration: FrontEndConfiguration, port: number, logger: Logger) {
    this.#configuration = configuration;
    this.port = port;
    this.#logger = logger;
    this.#budget.started();
    cluster.on('exit', (worker, code, signal) => this.#exited(worker, signal ?? String(code)));
  }

  /** @throws CliError when a front end cannot listen */
  static async start(
    options: ServeOptions,
    models: readonly RunningModel[],
    logger: Logger,
  ): Promise<FrontEndCluster> {
    const { path, execArgv } = entryPoint('cli/serving/front-end-process');
    cluster.setupPrimary({ exec: path, execArgv, serialization: 'advanced' });
    const configuration: FrontEndConfiguration = {
      models: models.map(({ supervisors, ...model }) => ({
        ...model,
        socketPaths: supervisors.map((one) => one.socketPath),
      })),
      host: options.host,
      httpPort: options.httpPort,
      apiKeys: options.apiKeys,
      requestTimeoutSeconds: options.requestTimeoutSeconds,
      answers: options.answers,
      logLevel: options.logLevel,
    };
    // Where a free port was asked for (0), the cluster gives all of them the same one.
    const [port = 0] = await Promise.all(
      Array.from({ length: options.frontEnds }, () => spawn(configuration)),
    );
    return new FrontEndCluster(configuration, port, logger);
  }

  async metricsText(): Promise<{ text: string; contentType: string }> {
    return { text: await this.#aggregator.clusterMetrics(), contentType: this.#aggregator.contentType };
  }

  /** All of them refuse new requests, and all listen on until the last one's answers are out. */
  async drain(timeoutMs: number): Promise<void> {
    this.#closing = true;
    await this.#tellAll({ kind: 'drain', timeoutMs }, (worker, done) => {
      worker.on('message', (message: FrontEndMessage) => {
        if (message.kind === 'drained') done();
      });
    });
  }

  async close(): Promise<void> {
    this.#closing = true;
    await this.#tellAll({ kind: 'close' }, () => {});
  }

  /** Resolves when each front end has done as told, or ended. */
  async #tellAll(message: ControlMessage, listen: (worker: Worker, done: () => void) => void): Promise<void> {
    const workers = Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
    await Promise.all(
      workers.map(
        (worker) =>
          new Promise<void>((resolve) => {
            worker.once('exit', () => resolve());
            listen(worker, resolve);
            if (worker.isConnected()) worker.send(message);
          }),
      ),
    );
  }

  #exited(worker: Worker, reason: string): void {
    if (this.#closing) return;
    const delayMs = this.#budget.next();
    const details = { pid: worker.process.pid, reason };
    if (delayMs === undefined) {
      this.#logger.error(details, 'a front end ended again; no other is started in its place');
      return;
    }
    this.#logger.error(details, `a front end ended; starting another in ${delayMs} ms`);
    setTimeout(() => {
      if (this.#closing) return;
      spawn(this.#configuration).then(
        () => this.#budget.started(),
        (thrown: Error) => this.#logger.error({ reason: thrown.message }, 'a front end did not start'),
      );
    }, delayMs);
  }
}

/** Starts a front end and resolves with the port it listens on. */
function spawn(configuration: FrontEndConfiguration): Promise<number> {
  const worker = cluster.fork();
  return new Promise((resolve, reject) => {
    worker.on('message', (message: FrontEndMessage) => {
      if (message.kind === 'online') worker.send(configuration);
      else if (message.kind === 'listening') resolve(message.port);
      else if (message.kind === 'failed') {
        const inUse = message.message.includes('EADDRINUSE');
        const fix = inUse
          ? `port ${configuration.httpPort} is in use; give another --http-port`
          : message.message;
        reject(new CliError(inUse ? 'PORT_IN_USE' : 'FRONT_END_FAILED', fix, { usage: false }));
      }
    });
    worker.once('exit', (code) =>
      reject(
        new CliError('FRONT_END_FAILED', `a front-end process ended while starting (exit ${code})`, {
          usage: false,
        }),
      ),
    );
  });
}
