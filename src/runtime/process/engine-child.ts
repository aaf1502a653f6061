import { type ChildProcess, fork } from 'node:child_process';
import { entryPoint } from '../../base/entry.ts';
import { messageOf, NereidError } from '../../base/errors.ts';
import { RuntimeError } from '../errors.ts';
import type {
  EngineProcessConfiguration,
  EngineProcessMessage,
  SupervisorMessage,
} from './engine-process-messages.ts';
import { Liveness } from './liveness.ts';

/** Between closing an engine's channel, which ends it, and killing it. */
const exitGraceMs = 2_000;

/** One life of an engine process. */
export class EngineChild {
  /** Resolves when the process says that it is ready, rejects when it says or shows that it is not. */
  readonly ready: Promise<void>;
  /** Resolves with the reason once a process that was ready is gone. */
  readonly gone: Promise<string>;
  readonly #child: ChildProcess | undefined;
  readonly #liveness = new Liveness();
  #busy = false;
  #isReady = false;
  #isGone = false;
  #failure: NereidError | undefined;
  #resolveGone: (detail: string) => void = () => {};

  constructor(configuration: EngineProcessConfiguration, startTimeoutMs: number) {
    this.gone = new Promise((resolve) => {
      this.#resolveGone = resolve;
    });
    const { path, execArgv } = entryPoint('runtime/process/engine-process');
    try {
      this.#child = fork(path, {
        execArgv,
        serialization: 'advanced',
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      });
      this.ready = this.#follow(this.#child, configuration, startTimeoutMs);
    } catch (cause) {
      this.#isGone = true;
      // Without descriptors or processes to spare, fork itself throws.
      this.ready = Promise.reject(notStarted(cause));
    }
    this.ready.catch(() => {});
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Whether it said that it is in a step (or between two of them). */
  get busy(): boolean {
    return this.#busy;
  }

  /** Asks it to show that it lives. @returns for how long it has not, in milliseconds; 0 while it is not ready */
  ping(): number {
    if (!this.#isReady) return 0;
    this.#send({ kind: 'ping' });
    return this.#liveness.look();
  }

  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  /** Ends it and resolves once it is gone. */
  async end(): Promise<void> {
    const child = this.#child;
    if (!child || this.#isGone) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => this.kill(), exitGraceMs);
      child.once('exit', () => {
        clearTimeout(timer);
        resolve();
      });
      if (child.connected) child.disconnect();
      else this.kill();
    });
  }

  #send(message: SupervisorMessage): void {
    // What cannot be sent any more shows as an exit.
    if (this.#child?.connected) this.#child.send(message, () => {});
  }

  #follow(
    child: ChildProcess,
    configuration: EngineProcessConfiguration,
    startTimeoutMs: number,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const startTimer = setTimeout(() => {
        const problem = `the engine process was not ready after ${startTimeoutMs} ms (startTimeoutMs)`;
        reject(new RuntimeError('ENGINE_FAILED', `${problem}; it was killed`));
        this.kill();
      }, startTimeoutMs);
      const over = (error: Error): void => {
        this.#isGone = true;
        clearTimeout(startTimer);
        reject(error);
      };
      child.on('message', (message: EngineProcessMessage) => {
        if (message.kind === 'ready') {
          this.#isReady = true;
          clearTimeout(startTimer);
          resolve();
        }
        this.#receive(message);
      });
      child.on('error', (cause) => {
        // Also says that a message was not sent; only without a process is it the end.
        if (child.pid === undefined) over(notStarted(cause));
      });
      child.once('exit', (code, signal) => {
        const detail = this.#failure?.message ?? `exit ${signal ?? code}`;
        const problem = `the engine process ended while starting (${detail})`;
        over(this.#failure ?? new RuntimeError('ENGINE_FAILED', problem));
        if (this.#isReady) this.#resolveGone(detail);
      });
      this.#send({ kind: 'configure', configuration });
    });
  }

  #receive(message: EngineProcessMessage): void {
    this.#liveness.heard();
    if (message.kind === 'heartbeat') this.#busy = message.busy;
    else if (message.kind === 'failed') {
      this.#failure = new NereidError(message.code, message.errorKind, message.message);
    }
  }
}

function notStarted(cause: unknown): RuntimeError {
  const problem = `the engine process could not be started: ${messageOf(cause)}`;
  return new RuntimeError('ENGINE_FAILED', problem, { cause });
}
