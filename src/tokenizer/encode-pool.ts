import type { Worker } from 'node:worker_threads';
import { definite, messageOf } from '../base/errors.ts';
import { startWorker } from '../base/worker.ts';
import { phases } from '../trace/phases.ts';
import { threadTracer } from '../trace/process-tracer.ts';
import { TokenizerError, type TokenizerErrorCode } from './errors.ts';
import type { TokenizerFiles } from './json-tokenizer.ts';
import type { EncodeOptions, Tokenizer } from './types.ts';

/** Texts up to this length are encoded on the caller's own loop: about 2 ms at most. UTF-16 units. */
export const inlineTextLengthMax = 16_384;
/** Texts that may wait for a worker. */
export const encodeQueueLengthMax = 256;
/** Their summed length, in UTF-16 units (two bytes each). */
export const encodeQueueTextLengthMax = 64 * 1024 * 1024;
/** A worker without work ends after this long, to give its copy of the vocabulary back (100 MB for 150k tokens). */
const idleWorkerMsDefault = 30_000;

/** What {@link EncodePool} needs of a tokenizer: it is made anew, from its files, in each worker. */
export interface PooledTokenizer extends Tokenizer {
  readonly files: TokenizerFiles;
}

/** Limits of an {@link EncodePool}; each has a default. */
export interface EncodePoolOptions {
  /** Worker threads at most, started when needed. Default 1. */
  workersMax?: number;
  inlineTextLengthMax?: number;
  queueLengthMax?: number;
  queueTextLengthMax?: number;
  /** How long a worker without work stays. */
  idleWorkerMs?: number;
}

/** To the worker. */
export interface EncodeJob {
  text: string;
  options: EncodeOptions | undefined;
}

/** From the worker. */
export type EncodeResult = { ids: Int32Array } | { code: TokenizerErrorCode; message: string };

interface WaitingJob extends EncodeJob {
  resolve(ids: Int32Array): void;
  reject(error: Error): void;
}

/** Encodes long texts in worker threads, so that a megabyte of prompt never stops the loop that streams to everybody else. */
export class EncodePool {
  readonly #tokenizer: PooledTokenizer;
  readonly #limits: Required<EncodePoolOptions>;
  readonly #queue: WaitingJob[] = [];
  readonly #workers = new Set<EncodeWorker>();
  #queuedTextLength = 0;
  #closed = false;

  constructor(tokenizer: PooledTokenizer, options: EncodePoolOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#limits = {
      workersMax: options.workersMax ?? 1,
      inlineTextLengthMax: options.inlineTextLengthMax ?? inlineTextLengthMax,
      queueLengthMax: options.queueLengthMax ?? encodeQueueLengthMax,
      queueTextLengthMax: options.queueTextLengthMax ?? encodeQueueTextLengthMax,
      idleWorkerMs: options.idleWorkerMs ?? idleWorkerMsDefault,
    };
  }

  /**
   * The same ids as the tokenizer's own `encode`.
   * @throws TokenizerError ENCODE_QUEUE_FULL, ENCODE_WORKER_FAILED, and what `encode` throws
   */
  async encode(text: string, options?: EncodeOptions): Promise<Int32Array> {
    if (text.length <= this.#limits.inlineTextLengthMax) return this.#encodeHere(text, options);
    if (this.#closed) throw closedError();
    const { queueLengthMax, queueTextLengthMax } = this.#limits;
    // A single text always fits an empty queue: the tokenizer has its own limit for one.
    const overLong = this.#queue.length > 0 && this.#queuedTextLength + text.length > queueTextLengthMax;
    if (this.#queue.length >= queueLengthMax || overLong) {
      const waiting = `${this.#queue.length} long texts (${this.#queuedTextLength} characters) wait to be tokenized`;
      throw new TokenizerError('ENCODE_QUEUE_FULL', `${waiting}; try again later`);
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ text, options, resolve, reject });
      this.#queuedTextLength += text.length;
      this.#dispatch();
    });
  }

  #encodeHere(text: string, options: EncodeOptions | undefined): Int32Array {
    threadTracer.begin(phases.tokenize);
    const ids = this.#tokenizer.encode(text, options);
    threadTracer.end(phases.tokenize);
    return ids;
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const worker = this.#idleWorker();
      if (!worker) return;
      const job = definite(this.#queue.shift(), "the queue's first job");
      this.#queuedTextLength -= job.text.length;
      worker.run(job);
    }
  }

  #idleWorker(): EncodeWorker | undefined {
    for (const worker of this.#workers) if (!worker.busy) return worker;
    if (this.#workers.size >= this.#limits.workersMax) return undefined;
    const worker = new EncodeWorker(this.#tokenizer.files, this.#limits.idleWorkerMs, {
      onFree: () => this.#dispatch(),
      onLeaving: () => this.#workers.delete(worker),
      onGone: () => {
        if (!this.#closed) this.#dispatch();
      },
    });
    this.#workers.add(worker);
    return worker;
  }

  /** Ends the workers; what still waits is refused. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const job of this.#queue.splice(0)) job.reject(closedError());
    await Promise.all([...this.#workers].map((worker) => worker.end()));
  }
}

function closedError(): TokenizerError {
  return new TokenizerError('ENCODE_WORKER_FAILED', 'the tokenizer pool is closed; the server is stopping');
}

interface EncodeWorkerEvents {
  /** Its job is done. */
  onFree(): void;
  /** It takes no job any more: it is about to end, or failed. Always before `onGone`. */
  onLeaving(): void;
  /** Its thread has ended. */
  onGone(): void;
}

/** One worker thread and the job it has. */
class EncodeWorker {
  readonly #worker: Worker;
  readonly #idleWorkerMs: number;
  readonly #events: EncodeWorkerEvents;
  #job: WaitingJob | undefined;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(files: TokenizerFiles, idleWorkerMs: number, events: EncodeWorkerEvents) {
    this.#idleWorkerMs = idleWorkerMs;
    this.#events = events;
    this.#worker = startWorker('tokenizer/encode-worker', { workerData: files });
    this.#worker.on('message', (result: EncodeResult) => this.#finish(result));
    this.#worker.on('error', (error) => this.#fail(messageOf(error)));
    this.#worker.on('exit', (code) => this.#gone(code));
  }

  get busy(): boolean {
    return this.#job !== undefined;
  }

  run(job: WaitingJob): void {
    clearTimeout(this.#idleTimer);
    this.#job = job;
    // Only a worker with work keeps the process alive.
    this.#worker.ref();
    this.#worker.postMessage({ text: job.text, options: job.options } satisfies EncodeJob);
  }

  #finish(result: EncodeResult): void {
    const job = this.#job;
    this.#job = undefined;
    this.#worker.unref();
    this.#idleTimer = setTimeout(() => void this.end(), this.#idleWorkerMs).unref();
    if ('ids' in result) job?.resolve(result.ids);
    else job?.reject(new TokenizerError(result.code, result.message));
    this.#events.onFree();
  }

  #fail(message: string): void {
    // Its thread lives on until 'exit': no job may go to it meanwhile.
    this.#events.onLeaving();
    const job = this.#job;
    this.#job = undefined;
    job?.reject(
      new TokenizerError(
        'ENCODE_WORKER_FAILED',
        `the tokenizer worker failed: ${message}; send the request again`,
      ),
    );
  }

  #gone(code: number): void {
    clearTimeout(this.#idleTimer);
    this.#fail(`it exited with code ${code}`);
    this.#events.onGone();
  }

  async end(): Promise<void> {
    clearTimeout(this.#idleTimer);
    this.#events.onLeaving();
    await this.#worker.terminate();
  }
}
