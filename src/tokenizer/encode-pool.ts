import { startWorker } from '../base/worker.ts';
import { WorkerPool, WorkerPoolError } from '../base/worker-pool.ts';
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
/** Longer texts leave one of several workers to the others. */
export const shortTextLengthMax = 256 * 1024;
/** Time that a worker may take for a text: some for any, and more by its length (an ordinary megabyte takes about a second). */
export const encodeTimeout = { baseMs: 5_000, msPerMegabyte: 10_000 } as const;
/** A worker without work ends after this long, to give its copy of the vocabulary back (100 MB for 150k tokens). */
const idleWorkerMsDefault = 30_000;

/** What {@link EncodePool} needs of a tokenizer: it is made anew, from its files, in each worker. */
export interface PooledTokenizer extends Tokenizer {
  readonly files: TokenizerFiles;
  /** False: its rules come from a stranger and may never end, so nothing is encoded on the caller's own loop. Default true. */
  readonly hasKnownRules?: boolean;
}

/** Limits of an {@link EncodePool}; each has a default. */
export interface EncodePoolOptions {
  /** Worker threads at most, started when needed. Default 2: a long text never has all of them. */
  workersMax?: number;
  inlineTextLengthMax?: number;
  queueLengthMax?: number;
  queueTextLengthMax?: number;
  /** How long a worker without work stays. */
  idleWorkerMs?: number;
  /** See {@link encodeTimeout}. */
  timeoutBaseMs?: number;
}

/** To the worker. */
export interface EncodeJob {
  text: string;
  options: EncodeOptions | undefined;
}

/** From the worker. */
export type EncodeResult = { ids: Int32Array } | { code: TokenizerErrorCode; message: string };

/** Encodes long texts in worker threads, so that a megabyte of prompt never stops the loop that streams to everybody else. */
export class EncodePool {
  readonly #tokenizer: PooledTokenizer;
  readonly #pool: WorkerPool<EncodeJob, EncodeResult>;
  readonly #inlineTextLengthMax: number;
  readonly #timeoutBaseMs: number;
  /** Encoded here in this turn of the event loop. */
  #turnTextLength = 0;

  constructor(tokenizer: PooledTokenizer, options: EncodePoolOptions = {}) {
    this.#tokenizer = tokenizer;
    const hasKnownRules = tokenizer.hasKnownRules ?? true;
    this.#inlineTextLengthMax = hasKnownRules ? (options.inlineTextLengthMax ?? inlineTextLengthMax) : 0;
    this.#timeoutBaseMs = options.timeoutBaseMs ?? encodeTimeout.baseMs;
    this.#pool = new WorkerPool({
      startWorker: () => startWorker('tokenizer/encode-worker', { workerData: tokenizer.files }),
      workersMax: options.workersMax ?? 2,
      queueLengthMax: options.queueLengthMax ?? encodeQueueLengthMax,
      queueCostMax: options.queueTextLengthMax ?? encodeQueueTextLengthMax,
      shortCostMax: shortTextLengthMax,
      // Every text of a stranger's rules needs one.
      idleWorkerMs: hasKnownRules ? (options.idleWorkerMs ?? idleWorkerMsDefault) : 0,
    });
  }

  /**
   * The same ids as the tokenizer's own `encode`.
   * @param signal whoever waits is gone
   * @throws TokenizerError ENCODE_QUEUE_FULL, ENCODE_WORKER_FAILED, ENCODE_TIMEOUT, ENCODE_CANCELLED, and what `encode` throws
   */
  async encode(text: string, options?: EncodeOptions, signal?: AbortSignal): Promise<Int32Array> {
    if (text.length <= this.#inlineTextLengthMax) {
      await this.#turn(text.length);
      threadTracer.begin(phases.tokenize);
      try {
        return this.#tokenizer.encode(text, options);
      } finally {
        threadTracer.end(phases.tokenize);
      }
    }
    const timeoutMs = this.#timeoutBaseMs + (encodeTimeout.msPerMegabyte * text.length) / 2 ** 20;
    const result = await this.#pool
      .run({ text, options }, { cost: text.length, timeoutMs, signal })
      .catch((thrown: unknown) => {
        throw poolError(thrown, text.length);
      });
    if ('ids' in result) return result.ids;
    throw new TokenizerError(result.code, result.message);
  }

  /** Waits for a turn of the event loop in which so much may still be encoded: a request may bring hundreds of short texts. */
  async #turn(textLength: number): Promise<void> {
    while (this.#turnTextLength > 0 && this.#turnTextLength + textLength > this.#inlineTextLengthMax) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (this.#turnTextLength === 0) {
      setImmediate(() => {
        this.#turnTextLength = 0;
      });
    }
    this.#turnTextLength += textLength;
  }

  /** Ends the workers; what still waits is refused. */
  close(): Promise<void> {
    return this.#pool.close();
  }
}

function poolError(thrown: unknown, textLength: number): unknown {
  if (!(thrown instanceof WorkerPoolError)) return thrown;
  switch (thrown.failure) {
    case 'full':
      return new TokenizerError(
        'ENCODE_QUEUE_FULL',
        `too many long texts wait to be tokenized: ${thrown.message}; try again later`,
      );
    case 'closed':
      return new TokenizerError(
        'ENCODE_WORKER_FAILED',
        'the tokenizer pool is closed; the server is stopping',
      );
    case 'timeout':
      return new TokenizerError(
        'ENCODE_TIMEOUT',
        `tokenizing ${textLength} characters took too long and was given up: the model's rules do not end on this text; send another`,
      );
    case 'cancelled':
      return new TokenizerError('ENCODE_CANCELLED', 'the client left before its text was tokenized');
    case 'failed':
      return new TokenizerError(
        'ENCODE_WORKER_FAILED',
        `the tokenizer worker failed: ${thrown.message}; send the request again`,
      );
  }
}
