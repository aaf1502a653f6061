import type { Worker } from 'node:worker_threads';
import { messageOf } from '../../base/errors.ts';
import { startWorker } from '../../base/worker.ts';
import type { BackendContext } from '../backend.ts';
import { RepositoryError, toRepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import type { Inference, InferResponse } from '../model.ts';
import type { Tensor } from '../tensor.ts';
import type { NodeCommand, NodeEvent, NodeResponse, NodeWorkerData } from './messages.ts';
import {
  opened,
  type Parcel,
  ParcelPacker,
  packedParameters,
  type SealedParcel,
  unpacked,
  unpackedParameters,
} from './parcel.ts';

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
  readonly #packer = new ParcelPacker<NodeCommand>();
  #counter = 0;
  #onReady: RunningBatch | undefined;
  #onFinalized: () => void = () => {};
  #death: Error | undefined;

  private constructor(context: BackendContext, data: NodeWorkerData) {
    this.#context = context;
    this.#data = data;
    this.#worker = startWorker('repository/node/worker', { workerData: data });
    this.#worker.on('message', (sealed: SealedParcel) => {
      const parcel = opened<NodeEvent>(sealed);
      for (const event of parcel.messages) this.#receive(event, parcel);
    });
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

  /** Runs a batch behind those that it has; resolves when `execute` has returned. */
  execute(batch: readonly Execution[]): Promise<void> {
    if (this.#death) return Promise.reject(this.#failure());
    const number = this.#counter++;
    const requests = batch.map((execution) => {
      const own = this.#counter++;
      this.#executions.set(own, execution);
      execution.onCancel = () => {
        this.#executions.delete(own);
        this.#post({ kind: 'cancel', number: own });
      };
      const { id, inputs, outputs, parameters } = execution.request;
      return {
        number: own,
        id,
        inputs: this.#packed(inputs),
        outputs: outputs && [...outputs],
        parameters: packedParameters(parameters),
      };
    });
    return new Promise((resolve, reject) => {
      this.#batches.set(number, { resolve, reject });
      this.#post({ kind: 'execute', batch: number, requests });
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

  #packed(tensors: readonly Tensor[]) {
    return tensors.map((tensor) => this.#packer.pack(tensor));
  }

  /** All that one turn of the event loop has to say goes as one message. */
  #post(command: NodeCommand): void {
    const { isEmpty } = this.#packer;
    this.#packer.add(command);
    if (!isEmpty) return;
    setImmediate(() => {
      const { sealed, transfer } = this.#packer.seal();
      this.#worker.postMessage(sealed, transfer);
    });
  }

  #receive(event: NodeEvent, parcel: Parcel<NodeEvent>): void {
    if (event.kind === 'response') {
      this.#respond(event, parcel);
    } else if (event.kind === 'executed') {
      const batch = this.#batches.get(event.batch);
      this.#batches.delete(event.batch);
      batch?.resolve();
    } else if (event.kind === 'call') {
      this.#call(event, parcel);
    } else if (event.kind === 'cancel-call') {
      this.#calls.get(event.call)?.cancel();
      this.#calls.delete(event.call);
    } else if (event.kind === 'finalized') {
      this.#onFinalized();
    } else if (event.kind === 'ready') {
      this.#onReady?.resolve();
    } else this.#onReady?.reject(new Error(event.message));
  }

  #respond(event: Extract<NodeEvent, { kind: 'response' }>, parcel: Parcel<NodeEvent>): void {
    const { number, response, isFinal, startedMs, atMs } = event;
    const execution = this.#executions.get(number);
    if (!execution) return;
    const nowNs = this.#context.clock.nowNs();
    const onOurClock = (ms: number): number => nowNs - (parcel.sentMs - ms) * 1e6;
    execution.begin(onOurClock(startedMs));
    execution.inputsReady(onOurClock(startedMs));
    if (isFinal) {
      this.#executions.delete(number);
      execution.computed(onOurClock(atMs));
    }
    if (!response?.error) {
      execution.respond(response && received(response, parcel), isFinal);
      return;
    }
    const error = new RepositoryError(response.error.status, response.error.message);
    execution.respond({ outputs: [], error }, isFinal);
  }

  #call(
    { call, model, version, request }: Extract<NodeEvent, { kind: 'call' }>,
    parcel: Parcel<NodeEvent>,
  ): void {
    const answer = (response: InferResponse | undefined, isFinal: boolean): void => {
      if (isFinal) this.#calls.delete(call);
      const own = response && {
        outputs: this.#packed(response.outputs),
        parameters: packedParameters(response.parameters),
        error: shown(response.error),
      };
      this.#post({ kind: 'called', call, response: own, isFinal });
    };
    try {
      if (this.#calls.size >= openCallsMax) {
        throw new RepositoryError('UNAVAILABLE', `${this.#data.modelName} has ${openCallsMax} calls open`);
      }
      this.#calls.set(call, undefined);
      const inputs = request.inputs.map((tensor) => unpacked(tensor, parcel));
      const parameters = unpackedParameters(request.parameters);
      const inference = this.#context
        .model(model, version)
        .infer({ ...request, inputs, parameters }, { respond: answer });
      if (this.#calls.has(call)) this.#calls.set(call, inference);
    } catch (thrown) {
      answer({ outputs: [], error: toRepositoryError(thrown) }, true);
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

function received({ outputs, parameters }: NodeResponse, parcel: Parcel<NodeEvent>): InferResponse {
  const tensors = outputs.map((tensor) => unpacked(tensor, parcel));
  return parameters ? { outputs: tensors, parameters: unpackedParameters(parameters) } : { outputs: tensors };
}
