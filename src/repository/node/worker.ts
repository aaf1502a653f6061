/** A model's thread: runs the class that `1/model.js` exports. See docs/triton.md, "Models in JavaScript". */
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { definite, messageOf } from '../../base/errors.ts';
import { type RepositoryStatus, toRepositoryError } from '../errors.ts';
import type { Parameters } from '../model.ts';
import { bytesTensor, type Tensor, tensorOf, textsOf, valuesOf } from '../tensor.ts';
import {
  type NodeCommand,
  type NodeEvent,
  type NodeFailure,
  type NodeRequest,
  type NodeResponse,
  type NodeWorkerData,
  packed,
} from './messages.ts';

const port = definite(parentPort, "the worker's port");
const data = workerData as NodeWorkerData;

function post(event: NodeEvent, transfer: ArrayBuffer[] = []): void {
  port.postMessage(event, transfer);
}

/** An error that a model throws or answers, with one of Triton's statuses. */
class ModelError extends Error {
  readonly status: RepositoryStatus;

  constructor(message: string, status: RepositoryStatus = 'INTERNAL') {
    super(message);
    this.status = status;
  }
}

function failureOf(thrown: unknown): NodeFailure {
  if (thrown instanceof ModelError) return { status: thrown.status, message: thrown.message };
  const { status, message } = toRepositoryError(thrown);
  return { status, message };
}

interface Answer {
  outputs?: Tensor[];
  parameters?: Parameters;
  error?: unknown;
}

function responseOf({ outputs = [], parameters, error }: Answer): NodeResponse {
  if (error === undefined) return { outputs, parameters };
  return { outputs: [], error: failureOf(typeof error === 'string' ? new ModelError(error) : error) };
}

/** One request as a model sees it. */
class ModelRequest {
  readonly id: string;
  readonly inputs: readonly Tensor[];
  readonly requestedOutputs: readonly string[] | undefined;
  readonly parameters: Parameters;
  readonly #number: number;
  readonly #controller = new AbortController();
  #isFinal = false;

  constructor(request: NodeRequest) {
    this.#number = request.number;
    this.id = request.id;
    this.inputs = request.inputs;
    this.requestedOutputs = request.outputs;
    this.parameters = request.parameters;
  }

  /** The input of that name, if the client sent it. */
  input(name: string): Tensor | undefined {
    return this.inputs.find((tensor) => tensor.name === name);
  }

  /** Aborts when the client gives up. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get isCancelled(): boolean {
    return this.#controller.signal.aborted;
  }

  /** Sends one response; decoupled models any number of them. */
  send(answer: Answer, { final = false } = {}): void {
    this.#respond(responseOf(answer), final);
  }

  /** Nothing follows. */
  end(): void {
    this.#respond(undefined, true);
  }

  get isAnswered(): boolean {
    return this.#isFinal;
  }

  cancel(): void {
    requests.delete(this.#number);
    this.#isFinal = true;
    this.#controller.abort();
  }

  #respond(response: NodeResponse | undefined, isFinal: boolean): void {
    if (this.#isFinal) return;
    this.#isFinal = isFinal;
    if (isFinal) requests.delete(this.#number);
    const transfer: ArrayBuffer[] = [];
    const own = response && { ...response, outputs: packed(response.outputs, transfer) };
    post({ kind: 'response', number: this.#number, response: own, isFinal }, transfer);
  }
}

const requests = new Map<number, ModelRequest>();

interface OpenCall {
  queue: (NodeResponse | undefined)[];
  isFinal: boolean;
  wake: () => void;
}

const calls = new Map<number, OpenCall>();
let callCounter = 0;

interface CallRequest {
  inputs: Tensor[];
  outputs?: string[];
  parameters?: Parameters;
  id?: string;
  version?: string;
  signal?: AbortSignal;
}

/** Calls another model of the repository; its responses as they come. */
async function* stream(
  model: string,
  request: CallRequest,
): AsyncGenerator<{ outputs: Tensor[]; parameters?: Parameters }> {
  const call = callCounter++;
  const open: OpenCall = { queue: [], isFinal: false, wake: () => {} };
  calls.set(call, open);
  const { inputs, outputs, parameters = {}, id = '', version = '', signal } = request;
  const cancel = (): void => {
    open.isFinal = true;
    open.wake();
  };
  signal?.addEventListener('abort', cancel, { once: true });
  const transfer: ArrayBuffer[] = [];
  const own = packed(inputs, transfer);
  post({ kind: 'call', call, model, version, request: { id, inputs: own, outputs, parameters } }, transfer);
  try {
    for (;;) {
      while (open.queue.length > 0) {
        const response = open.queue.shift();
        if (response?.error) throw new ModelError(response.error.message, response.error.status);
        if (response) yield { outputs: response.outputs, parameters: response.parameters };
      }
      if (open.isFinal) return;
      await new Promise<void>((resolve) => {
        open.wake = resolve;
      });
    }
  } finally {
    signal?.removeEventListener('abort', cancel);
    if (calls.delete(call)) post({ kind: 'cancel-call', call });
  }
}

/** The one response of another model; the last one, of a decoupled one. */
async function infer(
  model: string,
  request: CallRequest,
): Promise<{ outputs: Tensor[]; parameters?: Parameters } | undefined> {
  let last: { outputs: Tensor[]; parameters?: Parameters } | undefined;
  for await (const response of stream(model, request)) last = response;
  return last;
}

interface ModelInstance {
  initialize?(context: object): unknown;
  execute(requests: ModelRequest[]): unknown;
  finalize?(): unknown;
}

async function start(): Promise<ModelInstance> {
  const module = (await import(pathToFileURL(data.modelFile).href)) as Record<string, unknown>;
  const exported = module.default ?? module.Model;
  const isClass = typeof exported === 'function';
  if (!isClass) throw new Error(`${data.modelFile} must export a class (export default class Model)`);
  const instance = new (exported as new () => ModelInstance)();
  if (typeof instance.execute !== 'function')
    throw new Error(`the class of ${data.modelFile} has no execute(requests)`);
  const { config, modelName, version } = data;
  await instance.initialize?.({
    modelName,
    version,
    config,
    instance: data.instance,
    parameters: Object.fromEntries(
      Object.entries(config.parameters).map(([key, value]) => [key, value.string_value]),
    ),
    infer,
    stream,
    tensorOf,
    bytesTensor,
    textsOf,
    valuesOf,
    ModelError,
  });
  return instance;
}

/** A returned list answers the requests in order; models may also send by themselves. */
async function execute(
  instance: ModelInstance,
  batch: number,
  incoming: readonly NodeRequest[],
): Promise<void> {
  const list = incoming.map((request) => {
    const one = new ModelRequest(request);
    requests.set(request.number, one);
    return one;
  });
  try {
    const answers: unknown = await instance.execute(list);
    if (Array.isArray(answers)) {
      answers.forEach((answer: Answer | undefined, index) => {
        if (answer) list[index]?.send(answer, { final: true });
      });
    }
    post({ kind: 'executed', batch });
  } catch (thrown) {
    for (const request of list) if (!request.isAnswered) request.send({ error: thrown }, { final: true });
    post({ kind: 'executed', batch, failure: failureOf(thrown) });
  }
}

function handle(instance: ModelInstance, command: NodeCommand): void {
  if (command.kind === 'execute') {
    void execute(instance, command.batch, command.requests);
  } else if (command.kind === 'cancel') {
    requests.get(command.number)?.cancel();
  } else if (command.kind === 'called') {
    const open = calls.get(command.call);
    if (!open) return;
    if (command.response) open.queue.push(command.response);
    open.isFinal ||= command.isFinal;
    open.wake();
  } else {
    Promise.resolve(instance.finalize?.()).then(
      () => post({ kind: 'finalized' }),
      () => post({ kind: 'finalized' }),
    );
  }
}

start().then(
  (instance) => {
    port.on('message', (command: NodeCommand) => handle(instance, command));
    post({ kind: 'ready' });
  },
  (thrown: unknown) => post({ kind: 'failed', message: messageOf(thrown) }),
);
