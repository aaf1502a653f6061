import type { Worker } from 'node:worker_threads';
import { messageOf } from '../../base/errors.ts';
import { startWorker } from '../../base/worker.ts';
import type { BackendContext } from '../backend.ts';
import { RepositoryError, toRepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import type { Inference } from '../model.ts';
import {
  type NodeCommand,
  type NodeEvent,
  type NodeResponse,
  type NodeWorkerData,
  packed,
} from './messages.ts';

/** How long a model's thread may take to load and initialize, and to finalize. */
export const initializeTimeoutMs = 600_000;
export const finalizeTimeoutMs = 2_000;
/** Calls to other models that one instance may have open. */
export const openCallsMax = 10_000;

interface RunningBatch {
  resolve: () => void;
  reject: (error: Error) => void;
}

/** One instance of a model in JavaScript: a worker thread, its open requests and its calls to other models. */
export class NodeInstance {
  readonly #context: BackendContext;
  readonly #data: NodeWorkerData;
  readonly #worker: Worker;
  readonly #executions = new Map<number, Execution>();
  readonly #batches = new Map<number, RunningBatch>();
  readonly #calls = new Map<number, Inference | undefined>();
  #counter = 0;
  #onReady: RunningBatch | undefined;
  #onFinalized: () => void = () => {};
  #death: Error | undefined;

  private constructor(context: BackendContext, data: NodeWorkerData) {
    this.#context = context;
    this.#data = data;
    this.#worker = startWorker('repository/node/worker', { workerData: data });
    this.#worker.on('message', (event: NodeEvent) => this.#receive(event));
    this.#worker.on('error', (error: Error) => this.#died(error));
    this.#worker.on('exit', (code) => this.#died(new Error(`its thread ended (exit ${code})`)));
  }

  /** @throws RepositoryError INTERNAL when the model cannot be loaded or initialized */
  static async start(context: BackendContext, data: NodeWorkerData): Promise<NodeInstance> {
    const instance = new NodeInstance(context, data);
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        instance.#onReady = { resolve, reject };
        const late = new Error(`initialize took longer than ${initializeTimeoutMs} ms`);
        timer = setTimeout(() => reject(late), initializeTimeoutMs);
      });
      return instance;
    } catch (cause) {
      await instance.#worker.terminate();
      const message = `failed to load model '${context.name}': ${messageOf(cause)}`;
      throw new RepositoryError('INTERNAL', message, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Its thread has ended; it never answers again. */
  get isDead(): boolean {
    return this.#death !== undefined;
  }

  /** Runs a batch; resolves when `execute` has returned. */
  execute(batch: readonly Execution[]): Promise<void> {
    if (this.#death) return Promise.reject(this.#failure());
    const number = this.#counter++;
    const transfer: ArrayBuffer[] = [];
    const requests = batch.map((execution) => {
      const own = this.#counter++;
      this.#executions.set(own, execution);
      execution.onCancel = () => {
        this.#executions.delete(own);
        this.#post({ kind: 'cancel', number: own });
      };
      const { id, inputs, outputs, parameters } = execution.request;
      execution.inputsReady();
      return {
        number: own,
        id,
        inputs: packed(inputs, transfer),
        outputs: outputs && [...outputs],
        parameters,
      };
    });
    return new Promise((resolve, reject) => {
      this.#batches.set(number, { resolve, reject });
      this.#post({ kind: 'execute', batch: number, requests }, transfer);
    });
  }

  /** Lets the model finalize, then ends its thread. */
  async close(): Promise<void> {
    if (!this.#death) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#onFinalized = resolve;
        timer = setTimeout(resolve, finalizeTimeoutMs);
        this.#post({ kind: 'finalize' });
      });
      clearTimeout(timer);
    }
    for (const call of this.#calls.values()) call?.cancel();
    this.#calls.clear();
    await this.#worker.terminate();
  }

  #post(command: NodeCommand, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(command, transfer);
  }

  #receive(event: NodeEvent): void {
    if (event.kind === 'response') {
      this.#respond(event.number, event.response, event.isFinal);
    } else if (event.kind === 'executed') {
      const batch = this.#batches.get(event.batch);
      this.#batches.delete(event.batch);
      batch?.resolve();
    } else if (event.kind === 'call') {
      this.#call(event);
    } else if (event.kind === 'cancel-call') {
      this.#calls.get(event.call)?.cancel();
      this.#calls.delete(event.call);
    } else if (event.kind === 'finalized') {
      this.#onFinalized();
    } else if (event.kind === 'ready') {
      this.#onReady?.resolve();
    } else this.#onReady?.reject(new Error(event.message));
  }

  #respond(number: number, response: NodeResponse | undefined, isFinal: boolean): void {
    const execution = this.#executions.get(number);
    if (!execution) return;
    if (isFinal) {
      this.#executions.delete(number);
      execution.computed();
    }
    if (!response?.error) {
      execution.respond(response && { outputs: response.outputs, parameters: response.parameters }, isFinal);
      return;
    }
    const error = new RepositoryError(response.error.status, response.error.message);
    execution.respond({ outputs: [], error }, isFinal);
  }

  #call(event: Extract<NodeEvent, { kind: 'call' }>): void {
    const { call, model, version, request } = event;
    const answer = (response: NodeResponse | undefined, isFinal: boolean): void => {
      if (isFinal) this.#calls.delete(call);
      const transfer: ArrayBuffer[] = [];
      const own = response && { ...response, outputs: packed(response.outputs, transfer) };
      this.#post({ kind: 'called', call, response: own, isFinal }, transfer);
    };
    try {
      if (this.#calls.size >= openCallsMax) {
        throw new RepositoryError('UNAVAILABLE', `${this.#data.modelName} has ${openCallsMax} calls open`);
      }
      this.#calls.set(call, undefined);
      const inference = this.#context.model(model, version).infer(request, {
        respond: (response, isFinal) =>
          answer(
            response && {
              outputs: [...response.outputs],
              parameters: response.parameters,
              error: shown(response.error),
            },
            isFinal,
          ),
      });
      if (this.#calls.has(call)) this.#calls.set(call, inference);
    } catch (thrown) {
      const { status, message } = toRepositoryError(thrown);
      answer({ outputs: [], error: { status, message } }, true);
    }
  }

  #died(error: Error): void {
    if (this.#death) return;
    this.#death = error;
    this.#onReady?.reject(error);
    this.#onFinalized();
    const failure = this.#failure();
    for (const execution of this.#executions.values()) execution.fail(failure);
    this.#executions.clear();
    for (const batch of this.#batches.values()) batch.reject(failure);
    this.#batches.clear();
  }

  #failure(): RepositoryError {
    const reason = this.#death ? messageOf(this.#death) : 'unknown';
    return new RepositoryError('INTERNAL', `the instance of model '${this.#data.modelName}' died: ${reason}`);
  }
}

function shown(error: RepositoryError | undefined): NodeResponse['error'] {
  return error && { status: error.status, message: error.message };
}
