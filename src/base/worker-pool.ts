import type { Worker } from 'node:worker_threads';
import { definite, messageOf } from './errors.ts';

/** Bounds of a {@link WorkerPool}. */
export interface WorkerPoolOptions {
  /** Starts a thread (see `worker.ts`) that answers each message with one, after a first {@link workerReady}. */
  startWorker: () => Worker;
  /** Threads at most, started when needed. */
  workersMax: number;
  /** Jobs that may wait, and their summed cost. */
  queueLengthMax: number;
  queueCostMax: number;
  /** Jobs over this cost leave one of several workers to the others. */
  shortCostMax: number;
  /** A worker without work ends after this long, to give its memory back. 0: never. */
  idleWorkerMs: number;
}

/** What a worker says once it can take jobs. */
export const workerReady = 'ready';

/** What became of a job that no worker answered. */
export type PoolFailure = 'full' | 'closed' | 'failed' | 'timeout' | 'cancelled';

/** A job was not done by its worker. */
export class WorkerPoolError extends Error {
  readonly failure: PoolFailure;

  constructor(failure: PoolFailure, message: string) {
    super(message);
    this.failure = failure;
  }
}

/** How much a job is, how long it may take, and who waits for it. */
export interface JobOptions {
  /** In any unit that is proportional to its time. */
  cost: number;
  /** From when a worker has it; then the worker is ended. */
  timeoutMs: number;
  /** Whoever waits is gone: the job leaves the queue, or is ended. */
  signal?: AbortSignal;
}

interface Job<Message, Result> extends JobOptions {
  message: Message;
  queuedMs: number;
  resolve(result: Result): void;
  reject(error: WorkerPoolError): void;
}

/** Cost units that a worker does in a millisecond, about: what waiting is weighed against. */
const costPerMs = 1_000;
/** A starting worker that is not ready after this long is ended. */
const startTimeoutMs = 60_000;

/**
 * Jobs in worker threads: work that takes long, or may never end because strangers wrote it (regexes, templates), where it can be stopped.
 * The next job is the one whose wait is the longest in proportion to its cost, so that short ones pass long ones and none starves.
 */
export class WorkerPool<Message, Result> {
  readonly #options: WorkerPoolOptions;
  #queue: Job<Message, Result>[] = [];
  readonly #workers = new Set<PoolWorker<Message, Result>>();
  #queuedCost = 0;
  #closed = false;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
  }

  /** @throws WorkerPoolError */
  run(message: Message, options: JobOptions): Promise<Result> {
    return new Promise((resolve, reject) => {
      const { queueLengthMax, queueCostMax } = this.#options;
      if (this.#closed) throw closedError();
      if (options.signal?.aborted) throw cancelledError();
      // A single job always fits an empty queue.
      const overCost = this.#queue.length > 0 && this.#queuedCost + options.cost > queueCostMax;
      if (this.#queue.length >= queueLengthMax || overCost)
        throw new WorkerPoolError('full', `${this.#queue.length} jobs (cost ${this.#queuedCost}) wait`);
      const job = { ...options, message, queuedMs: performance.now(), resolve, reject };
      this.#queue.push(job);
      this.#queuedCost += job.cost;
      options.signal?.addEventListener('abort', () => this.#cancel(job), { once: true });
      this.#dispatch();
    });
  }

  /** Starts a worker, so that the first job need not wait for it. */
  warm(): void {
    if (!this.#closed && this.#workers.size === 0) this.#start();
  }

  /** Ends the workers; what still waits is refused. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const job of this.#queue.splice(0)) job.reject(closedError());
    await Promise.all([...this.#workers].map((worker) => worker.end('closed')));
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const nowMs = performance.now();
      const [first, ...others] = this.#queue;
      const urgency = (job: Job<Message, Result>): number =>
        (nowMs - job.queuedMs + 1) / (1 + job.cost / costPerMs);
      const next = others.reduce(
        (best, job) => (urgency(job) > urgency(best) ? job : best),
        definite(first, 'a job'),
      );
      // If there is no worker for it, perhaps there is for the most urgent of the short ones.
      const short = this.#queue.filter((job) => job.cost <= this.#options.shortCostMax);
      const candidates = [next, ...short.sort((a, b) => urgency(b) - urgency(a)).slice(0, 1)];
      const found = candidates
        .map((job) => ({ job, worker: this.#workerFor(job) }))
        .find(({ worker }) => worker);
      if (!found?.worker) return;
      this.#queue = this.#queue.filter((job) => job !== found.job);
      this.#queuedCost -= found.job.cost;
      found.worker.run(found.job);
    }
  }

  #workerFor(job: Job<Message, Result>): PoolWorker<Message, Result> | undefined {
    const { workersMax, shortCostMax } = this.#options;
    const busyWithLong = [...this.#workers].filter((worker) => (worker.job?.cost ?? 0) > shortCostMax).length;
    if (workersMax > 1 && job.cost > shortCostMax && busyWithLong >= workersMax - 1) return undefined;
    for (const worker of this.#workers) if (!worker.job) return worker;
    return this.#workers.size < workersMax ? this.#start() : undefined;
  }

  #start(): PoolWorker<Message, Result> {
    const worker = new PoolWorker<Message, Result>(this.#options, {
      onFree: () => this.#dispatch(),
      onLeaving: () => this.#workers.delete(worker),
      onGone: () => {
        if (!this.#closed) this.#dispatch();
      },
    });
    this.#workers.add(worker);
    return worker;
  }

  #cancel(job: Job<Message, Result>): void {
    const before = this.#queue.length;
    this.#queue = this.#queue.filter((one) => one !== job);
    if (this.#queue.length < before) {
      this.#queuedCost -= job.cost;
      job.reject(cancelledError());
      return;
    }
    // A short one is done sooner than a new worker is started.
    if (job.cost <= this.#options.shortCostMax) return;
    for (const worker of this.#workers) if (worker.job === job) void worker.end('cancelled');
  }
}

function closedError(): WorkerPoolError {
  return new WorkerPoolError('closed', 'the pool is closed');
}

function cancelledError(): WorkerPoolError {
  return new WorkerPoolError('cancelled', 'nobody waits for it any more');
}

interface PoolWorkerEvents {
  /** Its job is done. */
  onFree(): void;
  /** It takes no job any more: it is about to end, or failed. Always before `onGone`. */
  onLeaving(): void;
  /** Its thread has ended. */
  onGone(): void;
}

/** One worker thread and the job it has. */
class PoolWorker<Message, Result> {
  job: Job<Message, Result> | undefined;
  readonly #worker: Worker;
  readonly #options: WorkerPoolOptions;
  readonly #events: PoolWorkerEvents;
  #isReady = false;
  #idleTimer: NodeJS.Timeout | undefined;
  #deadline: NodeJS.Timeout | undefined;

  constructor(options: WorkerPoolOptions, events: PoolWorkerEvents) {
    this.#options = options;
    this.#events = events;
    this.#worker = options.startWorker();
    this.#worker.unref();
    this.#worker.on('message', (message: Result | typeof workerReady) => {
      if (message === workerReady) this.#ready();
      else this.#finish(message);
    });
    this.#worker.on('error', (error) => this.#fail('failed', messageOf(error)));
    this.#worker.on('exit', (code) => this.#gone(code));
    this.#deadline = setTimeout(() => void this.end('timeout'), startTimeoutMs).unref();
  }

  run(job: Job<Message, Result>): void {
    clearTimeout(this.#idleTimer);
    this.job = job;
    // Only a worker with work keeps the process alive.
    this.#worker.ref();
    this.#worker.postMessage(job.message);
    if (this.#isReady) this.#startDeadline();
  }

  #ready(): void {
    this.#isReady = true;
    this.#startDeadline();
  }

  #startDeadline(): void {
    clearTimeout(this.#deadline);
    if (this.job) this.#deadline = setTimeout(() => void this.end('timeout'), this.job.timeoutMs);
  }

  #finish(result: Result): void {
    clearTimeout(this.#deadline);
    const job = this.job;
    this.job = undefined;
    this.#worker.unref();
    const { idleWorkerMs } = this.#options;
    if (idleWorkerMs > 0) this.#idleTimer = setTimeout(() => void this.end('closed'), idleWorkerMs).unref();
    job?.resolve(result);
    this.#events.onFree();
  }

  #fail(failure: PoolFailure, message: string): void {
    clearTimeout(this.#deadline);
    // Its thread lives on until 'exit': no job may go to it meanwhile.
    this.#events.onLeaving();
    const job = this.job;
    this.job = undefined;
    job?.reject(new WorkerPoolError(failure, message));
  }

  #gone(code: number): void {
    clearTimeout(this.#idleTimer);
    this.#fail('failed', `it exited with code ${code}`);
    this.#events.onGone();
  }

  async end(failure: PoolFailure): Promise<void> {
    clearTimeout(this.#idleTimer);
    this.#fail(failure, failure === 'timeout' ? 'it took too long' : 'the worker was ended');
    await this.#worker.terminate();
  }
}
