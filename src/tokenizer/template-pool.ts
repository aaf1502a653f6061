import { startWorker } from '../base/worker.ts';
import { WorkerPool, WorkerPoolError } from '../base/worker-pool.ts';
import { templateTimeMs } from './bounded-template.ts';
import { type ChatInput, checkChatInput } from './chat-template.ts';
import { TokenizerError, type TokenizerErrorCode } from './errors.ts';

/** Chats that may wait for the worker. */
export const templateQueueLengthMax = 1_024;
/** Memory of the worker: what a template may make before it is given up. */
export const templateMegabytesMax = 512;

/** To the worker. */
export interface RenderJob {
  template: string;
  input: ChatInput;
}

/** From the worker. */
export type RenderResult = { text: string } | { code: TokenizerErrorCode; message: string };

/**
 * Renders chats in a worker thread: templates are programs that come with a checkpoint, and whoever wrote one must not be able to stop the
 * loop that serves everybody. One worker a model, so that a model's template costs nobody but its own users.
 */
export class TemplatePool {
  readonly #pool = new WorkerPool<RenderJob, RenderResult>({
    startWorker: () =>
      startWorker('tokenizer/template-worker', {
        resourceLimits: { maxOldGenerationSizeMb: templateMegabytesMax },
      }),
    workersMax: 1,
    queueLengthMax: templateQueueLengthMax,
    queueCostMax: Number.POSITIVE_INFINITY,
    shortCostMax: Number.POSITIVE_INFINITY,
    idleWorkerMs: 0,
  });
  readonly #timeoutMs: number;

  constructor(timeoutMs: number = templateTimeMs) {
    this.#timeoutMs = timeoutMs;
  }

  /** Starts the worker, so that the first chat need not wait for it. */
  warm(): void {
    this.#pool.warm();
  }

  /**
   * The same text as `renderChat`.
   * @param signal whoever waits is gone
   * @throws TokenizerError as `renderChat`, and TEMPLATE_QUEUE_FULL, TEMPLATE_WORKER_FAILED
   */
  async render(template: string | undefined, input: ChatInput, signal?: AbortSignal): Promise<string> {
    const known = checkChatInput(template, input);
    const cost = input.messages.length;
    const result = await this.#pool
      .run({ template: known, input }, { cost, timeoutMs: this.#timeoutMs, signal })
      .catch((thrown: unknown) => {
        throw thrown instanceof WorkerPoolError ? poolError(thrown, this.#timeoutMs) : thrown;
      });
    if ('text' in result) return result.text;
    throw new TokenizerError(result.code, result.message);
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}

function poolError({ failure, message }: WorkerPoolError, timeoutMs: number): TokenizerError {
  if (failure === 'full')
    return new TokenizerError(
      'TEMPLATE_QUEUE_FULL',
      `too many chats wait to be rendered: ${message}; try again later`,
    );
  if (failure === 'cancelled')
    return new TokenizerError('ENCODE_CANCELLED', 'the client left before its chat was rendered');
  if (failure === 'closed')
    return new TokenizerError(
      'TEMPLATE_WORKER_FAILED',
      'the template pool is closed; the server is stopping',
    );
  const reason = failure === 'timeout' ? `it took more than ${timeoutMs} ms` : message;
  return new TokenizerError('CHAT_TEMPLATE_REJECTED', `the model's chat template was given up: ${reason}`);
}
