import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { entryPoint } from '../../base/entry.ts';
import { NereidError } from '../../base/errors.ts';
import { RuntimeError } from '../errors.ts';
import { RemoteEngine } from '../transport/remote-client.ts';
import type { EngineProcessConfiguration, EngineProcessMessage } from './engine-process-messages.ts';
import { RestartBudget, restartsInARowMax } from './restart-budget.ts';

/** What the supervisor says while it works, for logs. */
export interface SupervisorEvent {
  event: 'started' | 'exited' | 'restarting' | 'stuck' | 'gave-up';
  engine: string;
  detail: string;
}

/** When to give up on an engine, and whom to tell. */
export interface SupervisorOptions {
  onEvent?: (event: SupervisorEvent) => void;
  /** A busy engine that reports no step for so long is killed and restarted. */
  stepDeadlineMs?: number;
  /** An engine that is not ready so long after its start is killed: loading hangs. */
  startTimeoutMs?: number;
  /** See {@link RestartBudget}. */
  restartsMax?: number;
}

const heartbeatCheckMs = 1_000;
const exitGraceMs = 2_000;

/**
 * Owns one engine process (a tensor-parallel group will be several: one dead rank then ends them all, since its peers would spin
 * inside NCCL). Restarts it when it dies or stops stepping; meanwhile the client is not ready and its requests have failed cleanly.
 */
export class EngineSupervisor {
  readonly client: RemoteEngine;
  readonly socketPath: string;
  readonly #folder: string;
  readonly #configuration: EngineProcessConfiguration;
  readonly #options: Required<SupervisorOptions>;
  #child: ChildProcess | undefined;
  #heartbeatMs = 0;
  #busy = false;
  readonly #budget: RestartBudget;
  #watch: NodeJS.Timeout | undefined;
  #restartTimer: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(
    configuration: Omit<EngineProcessConfiguration, 'socketPath'>,
    options: SupervisorOptions,
  ) {
    this.#folder = mkdtempSync(join(tmpdir(), 'nereid-'));
    this.socketPath =
      process.platform === 'win32'
        ? `\\\\.\\pipe\\${this.#folder.replaceAll(/[\\/:]/g, '-')}`
        : join(this.#folder, 'engine.sock');
    this.#configuration = { ...configuration, socketPath: this.socketPath };
    this.#options = {
      onEvent: () => {},
      stepDeadlineMs: 120_000,
      startTimeoutMs: 600_000,
      restartsMax: restartsInARowMax,
      ...options,
    };
    this.#budget = new RestartBudget(this.#options.restartsMax);
    this.client = new RemoteEngine(this.socketPath);
    process.on('exit', this.#removeFolder);
  }

  /**
   * Starts the engine and resolves once it answers.
   * @throws NereidError with the engine's own code and message when the first start fails; that is not retried
   */
  static async start(
    configuration: Omit<EngineProcessConfiguration, 'socketPath'>,
    options: SupervisorOptions = {},
  ): Promise<EngineSupervisor> {
    const supervisor = new EngineSupervisor(configuration, options);
    try {
      await supervisor.#spawn();
      await supervisor.client.whenReady();
    } catch (thrown) {
      await supervisor.close();
      throw thrown;
    }
    supervisor.#watch = setInterval(() => supervisor.#checkHeartbeat(), heartbeatCheckMs);
    supervisor.#watch.unref();
    return supervisor;
  }

  /** The engine's process id, while it runs. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async close(options: { drainTimeoutMs?: number } = {}): Promise<void> {
    await this.client.close(options);
    this.#closed = true;
    clearInterval(this.#watch);
    clearTimeout(this.#restartTimer);
    const child = this.#child;
    if (child && child.exitCode === null && child.signalCode === null) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => child.kill('SIGKILL'), exitGraceMs);
        child.once('exit', () => {
          clearTimeout(timer);
          resolve();
        });
        if (child.connected) child.disconnect();
        else child.kill('SIGKILL');
      });
    }
    process.off('exit', this.#removeFolder);
    this.#removeFolder();
  }

  readonly #removeFolder = (): void => rmSync(this.#folder, { recursive: true, force: true });

  /** Resolves when the process says it is ready, rejects when it says or shows that it is not. */
  #spawn(): Promise<void> {
    if (process.platform !== 'win32') rmSync(this.socketPath, { force: true });
    const { path, execArgv } = entryPoint('runtime/process/engine-process');
    const child = fork(path, {
      execArgv,
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child = child;
    this.#busy = false;
    return new Promise((resolve, reject) => {
      let isReady = false;
      const startTimer = setTimeout(() => {
        const problem = `the engine process was not ready after ${this.#options.startTimeoutMs} ms (startTimeoutMs)`;
        reject(new RuntimeError('ENGINE_FAILED', `${problem}; it was killed`));
        child.kill('SIGKILL');
      }, this.#options.startTimeoutMs);
      let failure: NereidError | undefined;
      child.on('message', (raw) => {
        const message = raw as EngineProcessMessage;
        if (message.kind === 'ready') {
          isReady = true;
          clearTimeout(startTimer);
          this.#budget.started();
          this.#tell('started', `process ${child.pid}`);
          resolve();
        } else if (message.kind === 'heartbeat') {
          this.#busy = message.busy;
          this.#heartbeatMs = performance.now();
        } else failure = new NereidError(message.code, message.errorKind, message.message);
      });
      child.on('error', (cause) =>
        reject(
          new RuntimeError('ENGINE_FAILED', `the engine process could not be started: ${cause.message}`, {
            cause,
          }),
        ),
      );
      child.once('exit', (code, signal) => {
        clearTimeout(startTimer);
        const detail = failure?.message ?? `exit ${signal ?? code}`;
        if (isReady) this.#exited(detail);
        else
          reject(
            failure ??
              new RuntimeError('ENGINE_FAILED', `the engine process ended while starting (${detail})`),
          );
      });
      child.send(this.#configuration);
    });
  }

  #exited(detail: string): void {
    if (this.#closed) return;
    this.#tell('exited', detail);
    this.#restart();
  }

  #restart(): void {
    const delayMs = this.#budget.next();
    if (delayMs === undefined) {
      const reason = `the engine of ${this.#configuration.name} stopped ${this.#options.restartsMax} times in a row`;
      this.client.giveUp(
        `${reason} and is not restarted any more; see the server's log, then restart the server`,
      );
      this.#tell(
        'gave-up',
        `${this.#options.restartsMax} restarts in a row did not help; the model stays unavailable`,
      );
      return;
    }
    this.#tell('restarting', `in ${delayMs} ms`);
    this.#restartTimer = setTimeout(() => {
      this.#spawn().catch((thrown: Error) => {
        if (this.#closed) return;
        this.#tell('exited', thrown.message);
        this.#restart();
      });
    }, delayMs);
  }

  #checkHeartbeat(): void {
    const silentMs = performance.now() - this.#heartbeatMs;
    if (!this.#busy || silentMs < this.#options.stepDeadlineMs) return;
    this.#tell(
      'stuck',
      `no step for ${silentMs} ms (stepDeadlineMs ${this.#options.stepDeadlineMs}); killing it`,
    );
    this.#busy = false;
    this.#child?.kill('SIGKILL');
  }

  #tell(event: SupervisorEvent['event'], detail: string): void {
    this.#options.onEvent({ event, engine: this.#configuration.name, detail });
  }
}
