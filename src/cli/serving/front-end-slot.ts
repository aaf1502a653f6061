import cluster, { type Worker } from 'node:cluster';
import type { Logger } from 'pino';
import { messageOf } from '../../base/errors.ts';
import { Liveness, pingIntervalMs } from '../../runtime/process/liveness.ts';
import { RestartBudget } from '../../runtime/process/restart-budget.ts';
import { CliError } from '../errors.ts';
import type { ControlMessage, FrontEndConfiguration, FrontEndMessage } from './front-end-messages.ts';

/** A front end whose event loop stands still for so long is killed and started again. */
export const frontEndDeadlineMs = 10_000;
/** How long a scrape waits for one front end: less than Prometheus does for all. */
export const metricsTimeoutMs = 8_000;

/** Where a front end listens. */
export interface FrontEndPorts {
  port: number;
  grpcPort: number | undefined;
  britonPort: number | undefined;
}

/** Who hears of one front end. */
export interface SlotObserver {
  /** Its process listens. */
  started?(slot: FrontEndSlot): void;
  /** Its process said something. */
  message(message: FrontEndMessage, slot: FrontEndSlot): void;
  /** Its process is gone. */
  ended?(slot: FrontEndSlot): void;
}

/** One of several front ends: its process, and the next one when that ends. */
export class FrontEndSlot {
  readonly #configuration: () => FrontEndConfiguration;
  readonly #logger: Logger;
  readonly #budget = new RestartBudget();
  readonly #observers: readonly SlotObserver[];
  readonly #watch: NodeJS.Timeout;
  #worker: Worker | undefined;
  #liveness = new Liveness();
  #listening = false;
  #closing = false;
  #restartTimer: NodeJS.Timeout | undefined;
  #metricsNumber = 0;

  /** @param configuration as it is when a process starts */
  constructor(
    configuration: () => FrontEndConfiguration,
    logger: Logger,
    observers: readonly SlotObserver[],
  ) {
    this.#configuration = configuration;
    this.#logger = logger;
    this.#observers = observers;
    this.#watch = setInterval(() => this.#checkLife(), pingIntervalMs).unref();
  }

  /** Whether it takes requests. */
  get listening(): boolean {
    return this.#listening;
  }

  /** Starts the process and resolves with the ports it listens on. @throws CliError when it cannot */
  async start(): Promise<FrontEndPorts> {
    const configuration = this.#configuration();
    const worker = fork();
    this.#worker = worker;
    const ports = await listening(worker, configuration);
    this.#listening = true;
    this.#liveness = new Liveness();
    this.#budget.started();
    worker.on('message', (message: FrontEndMessage) => {
      if (message.kind === 'alive') this.#liveness.heard();
      for (const observer of this.#observers) observer.message(message, this);
    });
    for (const observer of this.#observers) observer.started?.(this);
    worker.once('exit', (code, signal) => this.#ended(worker, signal ?? `exit ${code}`));
    return ports;
  }

  /** Sends a message to the process that runs, if one does. */
  send(message: ControlMessage): void {
    if (this.#worker?.isConnected()) this.#worker.send(message, () => {});
  }

  /** Tells the process and resolves when it has done as told (it says `done`), or ended. No other is started any more. */
  async finish(message: ControlMessage, done?: FrontEndMessage['kind']): Promise<void> {
    this.#closing = true;
    clearInterval(this.#watch);
    clearTimeout(this.#restartTimer);
    const worker = this.#worker;
    if (!worker || worker.isDead() || worker.process.pid === undefined) return;
    await new Promise<void>((resolve) => {
      worker.once('exit', () => resolve());
      worker.on('message', ({ kind }: FrontEndMessage) => {
        if (kind === done) resolve();
      });
      if (worker.isConnected()) this.send(message);
      else worker.process.kill('SIGKILL');
    });
  }

  /** Resolves when all that its process said before the call was heard, or it does not say anything any more. */
  async caughtUp(timeoutMs: number): Promise<void> {
    const worker = this.#worker;
    if (!this.#listening || !worker) return;
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        worker.off('message', onMessage);
        worker.off('exit', finish);
        resolve();
      };
      const onMessage = ({ kind }: FrontEndMessage): void => {
        if (kind === 'alive') finish();
      };
      const timer = setTimeout(finish, timeoutMs);
      worker.on('message', onMessage);
      worker.on('exit', finish);
      this.send({ kind: 'ping' });
    });
  }

  /** Its metrics as prom-client aggregates them; undefined while it does not listen or does not answer. */
  async metrics(): Promise<object[] | undefined> {
    const worker = this.#worker;
    if (!this.#listening || !worker) return undefined;
    const number = ++this.#metricsNumber;
    return new Promise((resolve) => {
      const finish = (metrics: object[] | undefined): void => {
        clearTimeout(timer);
        worker.off('message', onMessage);
        resolve(metrics);
      };
      const onMessage = (message: FrontEndMessage): void => {
        if (message.kind === 'metrics' && message.number === number) finish(message.metrics);
      };
      const timer = setTimeout(() => finish(undefined), metricsTimeoutMs);
      worker.on('message', onMessage);
      this.send({ kind: 'metrics', number });
    });
  }

  #ended(worker: Worker | undefined, reason: string): void {
    this.#listening = false;
    for (const observer of this.#observers) observer.ended?.(this);
    if (this.#closing) return;
    const { delayMs, isSlow } = this.#budget.next();
    const pace = isSlow ? 'it ended too often; ' : '';
    const details = { pid: worker?.process.pid, reason };
    this.#logger.error(details, `a front end ended; ${pace}starting another in ${delayMs} ms`);
    this.#restartTimer = setTimeout(() => {
      this.start().catch((thrown: unknown) => this.#ended(this.#worker, messageOf(thrown)));
    }, delayMs);
  }

  #checkLife(): void {
    if (!this.#listening) return;
    this.send({ kind: 'ping' });
    const silentMs = Math.round(this.#liveness.look());
    if (silentMs < frontEndDeadlineMs) return;
    const details = { pid: this.#worker?.process.pid, silentMs };
    this.#logger.error(
      details,
      `a front end stands still (frontEndDeadlineMs ${frontEndDeadlineMs}); killing it`,
    );
    this.#worker?.process.kill('SIGKILL');
  }
}

function fork(): Worker {
  try {
    return cluster.fork();
  } catch (cause) {
    // Without descriptors or processes to spare.
    throw failed(messageOf(cause), cause);
  }
}

function listening(worker: Worker, configuration: FrontEndConfiguration): Promise<FrontEndPorts> {
  return new Promise((resolve, reject) => {
    worker.on('error', (error) => {
      if (worker.process.pid === undefined) reject(failed(messageOf(error), error));
    });
    worker.on('message', (message: FrontEndMessage) => {
      if (message.kind === 'online')
        worker.send({ kind: 'configure', configuration } satisfies ControlMessage);
      else if (message.kind === 'listening')
        resolve({ port: message.port, grpcPort: message.grpcPort, britonPort: message.britonPort });
      else if (message.kind === 'failed') {
        const inUse = message.message.includes('EADDRINUSE');
        const fix = inUse ? portInUse(message.message, configuration) : message.message;
        reject(inUse ? new CliError('PORT_IN_USE', fix, { usage: false }) : failed(fix));
      }
    });
    worker.once('exit', (code, signal) =>
      reject(failed(`it ended while starting (${signal ?? `exit ${code}`})`)),
    );
  });
}

function portInUse(message: string, { httpPort, grpcPort, britonPort }: FrontEndConfiguration): string {
  const others = { '--grpc-port': grpcPort, '--briton-port': britonPort };
  const named = Object.entries(others).find(([, port]) => port !== undefined && message.includes(`:${port}`));
  const [flag, port] = named ?? ['--http-port', httpPort];
  return `port ${port} is in use; give another ${flag}`;
}

function failed(reason: string, cause?: unknown): CliError {
  return new CliError('FRONT_END_FAILED', `a front-end process did not start: ${reason}`, {
    usage: false,
    cause,
  });
}
