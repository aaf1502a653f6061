import { messageOf } from '../../base/errors.ts';
import { RemoteEngine } from '../transport/remote-client.ts';
import { EngineChild } from './engine-child.ts';
import type { EngineProcessConfiguration } from './engine-process-messages.ts';
import { isStopped, pingIntervalMs } from './liveness.ts';
import { RestartBudget, restartsInARowMax } from './restart-budget.ts';
import { SocketFolder } from './socket-folder.ts';

/** What the supervisor says while it works, for logs. */
export interface SupervisorEvent {
  event: 'started' | 'exited' | 'restarting' | 'stuck' | 'unavailable';
  engine: string;
  detail: string;
}

/** When an engine counts as stuck, how it is restarted, and whom to tell. */
export interface SupervisorOptions {
  onEvent?: (event: SupervisorEvent) => void;
  /** A busy engine that reports no step for so long is killed and restarted. */
  stepDeadlineMs?: number;
  /** An engine that has nothing to do, or was stopped by a signal, and does not answer for so long is killed and restarted. */
  idleDeadlineMs?: number;
  /** An engine that is not ready so long after its start is killed: loading hangs. */
  startTimeoutMs?: number;
  /** Quick restarts in a row; see {@link RestartBudget}. */
  restartsMax?: number;
}

/**
 * Owns one engine process (a tensor-parallel group will be several: one dead rank then ends them all, since its peers would spin
 * inside NCCL). Restarts it when it dies, stops stepping or stops answering, for ever; meanwhile the client is not ready and its
 * requests have failed cleanly.
 */
export class EngineSupervisor {
  readonly client: RemoteEngine;
  readonly socketPath: string;
  readonly #folder = new SocketFolder();
  readonly #configuration: EngineProcessConfiguration;
  readonly #options: Required<SupervisorOptions>;
  readonly #budget: RestartBudget;
  #child: EngineChild | undefined;
  #watch: NodeJS.Timeout | undefined;
  #restartTimer: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(
    configuration: Omit<EngineProcessConfiguration, 'socketPath'>,
    options: SupervisorOptions,
  ) {
    this.socketPath = this.#folder.socketPath;
    this.#configuration = { ...configuration, socketPath: this.socketPath };
    this.#options = {
      onEvent: () => {},
      stepDeadlineMs: 120_000,
      idleDeadlineMs: 5_000,
      startTimeoutMs: 600_000,
      restartsMax: restartsInARowMax,
      ...options,
    };
    this.#budget = new RestartBudget(this.#options.restartsMax);
    this.client = new RemoteEngine(this.socketPath);
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
    supervisor.#watch = setInterval(() => supervisor.#checkLife(), pingIntervalMs);
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
    await this.#child?.end();
    this.#folder.remove();
  }

  async #spawn(): Promise<void> {
    this.#folder.renew();
    const child = new EngineChild(this.#configuration, this.#options.startTimeoutMs);
    this.#child = child;
    await child.ready;
    this.#budget.started();
    this.client.reconnect();
    this.client.setTrouble(undefined);
    this.#tell('started', `process ${child.pid}`);
    void child.gone.then((detail) => this.#ended(detail));
  }

  #ended(detail: string): void {
    if (this.#closed) return;
    this.#tell('exited', detail);
    const { delayMs, isSlow } = this.#budget.next();
    const { name } = this.#configuration;
    if (isSlow) {
      const trouble = `the engine of ${name} stopped ${this.#options.restartsMax} times in a row (last: ${detail})`;
      this.client.setTrouble(`${trouble}; it is tried again every ${delayMs / 1000} s, see the server's log`);
      this.#tell('unavailable', `${trouble}; trying again in ${delayMs} ms`);
    } else this.#tell('restarting', `in ${delayMs} ms`);
    this.#restartTimer = setTimeout(() => {
      this.#spawn().catch((thrown: unknown) => this.#ended(messageOf(thrown)));
    }, delayMs);
  }

  #checkLife(): void {
    const child = this.#child;
    if (!child) return;
    const silentMs = Math.round(child.ping());
    const { stepDeadlineMs, idleDeadlineMs } = this.#options;
    if (silentMs < Math.min(idleDeadlineMs, stepDeadlineMs)) return;
    // A long step is not silence; but a stopped process makes no step.
    const inStep = child.busy && !isStopped(child.pid);
    if (inStep && silentMs < stepDeadlineMs) return;
    const limit = inStep
      ? `no step (stepDeadlineMs ${stepDeadlineMs})`
      : `no answer while idle or stopped (idleDeadlineMs ${idleDeadlineMs})`;
    this.#tell('stuck', `${limit} for ${silentMs} ms; killing it`);
    child.kill();
  }

  #tell(event: SupervisorEvent['event'], detail: string): void {
    this.#options.onEvent({ event, engine: this.#configuration.name, detail });
  }
}
