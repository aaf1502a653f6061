import { messageOf } from '../../base/errors.ts';
import { EngineChild } from './engine-child.ts';
import type { EngineProcessConfiguration } from './engine-process-messages.ts';
import { isStopped, pingIntervalMs } from './liveness.ts';
import { RestartBudget } from './restart-budget.ts';
import type { SupervisorEvent } from './supervisor.ts';

/** When a rank counts as stuck, and whom to tell. */
export interface RankSupervisorOptions {
  onEvent?: (event: SupervisorEvent) => void;
  /** A rank that does not answer for so long is killed and restarted: it is in a step that does not end. */
  stepDeadlineMs?: number;
  /** The same for one that was stopped by a signal. */
  idleDeadlineMs?: number;
  /** A group that has not come together so long after the start is given up for this time. */
  startTimeoutMs?: number;
}

/**
 * Owns one rank's process on a host without the front end. The rank ends when any other rank of its group does, and is started again, so that it
 * is there when rank 0 is.
 */
export class RankSupervisor {
  readonly #configuration: EngineProcessConfiguration;
  readonly #options: Required<RankSupervisorOptions>;
  readonly #budget = new RestartBudget();
  #child: EngineChild | undefined;
  #watch: NodeJS.Timeout | undefined;
  #restartTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(configuration: EngineProcessConfiguration, options: RankSupervisorOptions = {}) {
    this.#configuration = configuration;
    this.#options = {
      onEvent: () => {},
      stepDeadlineMs: 120_000,
      idleDeadlineMs: 5_000,
      startTimeoutMs: 600_000,
      ...options,
    };
  }

  /**
   * Starts the rank and resolves once its group is complete and its weights are loaded.
   * @throws NereidError when this first start fails; it is not retried
   */
  async start(): Promise<void> {
    await this.#spawn();
    this.#watch = setInterval(() => this.#checkLife(), pingIntervalMs);
    this.#watch.unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#watch);
    clearTimeout(this.#restartTimer);
    await this.#child?.end();
  }

  async #spawn(): Promise<void> {
    const child = new EngineChild(this.#configuration, this.#options.startTimeoutMs);
    this.#child = child;
    await child.ready;
    this.#budget.started();
    this.#tell('started', `process ${child.pid}`);
    void child.gone.then((detail) => this.#ended(detail));
  }

  #ended(detail: string): void {
    if (this.#closed) return;
    this.#tell('exited', detail);
    const { delayMs } = this.#budget.next();
    this.#tell('restarting', `in ${delayMs} ms`);
    this.#restartTimer = setTimeout(() => {
      this.#spawn().catch((thrown: unknown) => this.#ended(messageOf(thrown)));
    }, delayMs);
  }

  #checkLife(): void {
    const child = this.#child;
    if (!child) return;
    const silentMs = Math.round(child.ping());
    const deadlineMs = isStopped(child.pid) ? this.#options.idleDeadlineMs : this.#options.stepDeadlineMs;
    if (silentMs < deadlineMs) return;
    this.#tell('stuck', `no answer for ${silentMs} ms; killing it`);
    child.kill();
  }

  #tell(event: SupervisorEvent['event'], detail: string): void {
    this.#options.onEvent({ event, engine: this.#configuration.name, detail });
  }
}
