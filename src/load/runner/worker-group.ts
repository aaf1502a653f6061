import { type ChildProcess, fork } from 'node:child_process';
import { entryPoint } from '../../base/entry.ts';
import { NereidError } from '../../base/errors.ts';
import { monotonicMs } from '../../base/monotonic.ts';
import { LoadError } from '../errors.ts';
import { workerReadyTimeoutMs, workerStopTimeoutMs } from '../limits.ts';
import type { RequestRecord } from '../record.ts';
import type { WorkerCommand, WorkerReport } from './messages.ts';
import type { ClientCpu, LoadPlan } from './plan.ts';

/** Time from "all are ready" to the run's start, so that every worker has heard of it. */
const startAheadMs = 100;

/** Several processes that make one load together, for when one client core is not enough. */
export class WorkerGroup {
  readonly #workers: WorkerHandle[];

  private constructor(workers: WorkerHandle[]) {
    this.#workers = workers;
  }

  /** Starts them and waits until every one has opened its share. @throws LoadError LOAD_WORKER_FAILED, or what a worker reported */
  static async start(plan: LoadPlan): Promise<WorkerGroup> {
    const workers = Array.from({ length: plan.workers }, (_, index) => new WorkerHandle(index));
    try {
      await Promise.all(workers.map((worker) => worker.open(plan)));
    } catch (thrown) {
      for (const worker of workers) worker.kill();
      throw thrown;
    }
    return new WorkerGroup(workers);
  }

  /** @returns when every worker is done: the CPU time of all */
  async run(
    onStart: (startMs: number) => void,
    onRecord: (record: RequestRecord) => void,
  ): Promise<ClientCpu> {
    const startMs = monotonicMs() + startAheadMs;
    onStart(startMs);
    try {
      const costs = await Promise.all(this.#workers.map((worker) => worker.run(startMs, onRecord)));
      return costs.reduce((sum, cpu) => ({
        userMs: sum.userMs + cpu.userMs,
        systemMs: sum.systemMs + cpu.systemMs,
      }));
    } finally {
      for (const worker of this.#workers) worker.kill();
    }
  }

  finish(): void {
    for (const worker of this.#workers) worker.send({ kind: 'finish' });
  }

  stop(): void {
    for (const worker of this.#workers) {
      worker.send({ kind: 'stop' });
      worker.killAfter(workerStopTimeoutMs);
    }
  }
}

/** One worker process as its parent sees it. */
class WorkerHandle {
  readonly #child: ChildProcess;
  readonly #index: number;
  #onReport: (report: WorkerReport) => void = () => {};
  #onGone: (error: LoadError) => void = () => {};

  constructor(index: number) {
    this.#index = index;
    const { path, execArgv } = entryPoint('load/runner/worker');
    this.#child = fork(path, { execArgv, serialization: 'advanced' });
    this.#child.on('message', (report) => this.#onReport(report as WorkerReport));
    this.#child.on('exit', (code, signal) => {
      const how = signal ?? `exit ${code}`;
      this.#onGone(new LoadError('LOAD_WORKER_FAILED', `load worker ${index} ended by itself (${how})`));
    });
  }

  async open(plan: LoadPlan): Promise<void> {
    const late = new LoadError(
      'LOAD_WORKER_FAILED',
      `load worker ${this.#index} was not ready within ${workerReadyTimeoutMs / 1000} s; ask for fewer --workers`,
    );
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        timer = setTimeout(() => reject(late), workerReadyTimeoutMs);
        this.#onGone = reject;
        this.#onReport = (report) => {
          if (report.kind === 'online') this.send({ kind: 'open', plan, worker: this.#index });
          else if (report.kind === 'ready') resolve();
          else if (report.kind === 'failed') reject(reported(report));
        };
      });
    } finally {
      clearTimeout(timer);
    }
  }

  run(startMs: number, onRecord: (record: RequestRecord) => void): Promise<ClientCpu> {
    return new Promise((resolve, reject) => {
      this.#onGone = reject;
      this.#onReport = (report) => {
        if (report.kind === 'records') for (const record of report.records) onRecord(record);
        else if (report.kind === 'done') resolve(report.cpu);
        else if (report.kind === 'failed') reject(reported(report));
      };
      this.send({ kind: 'run', startMs });
    });
  }

  send(command: WorkerCommand): void {
    if (this.#child.connected) this.#child.send(command);
  }

  kill(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  killAfter(timeoutMs: number): void {
    setTimeout(() => this.#child.kill('SIGKILL'), timeoutMs).unref();
  }
}

function reported({ code, message }: Extract<WorkerReport, { kind: 'failed' }>): NereidError {
  return new NereidError(code, 'invalid', message);
}
