/** A model's thread: runs the class that `1/model.js` exports. See docs/triton.md, "Models in JavaScript". */
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { definite, messageOf } from '../../base/errors.ts';
import { type RepositoryStatus, toRepositoryError } from '../errors.ts';
import type { Parameters } from '../model.ts';
import { bytesTensor, type Tensor, tensorOf, textsOf, valuesOf } from '../tensor.ts';
import type {
  NodeCommand,
  NodeEvent,
  NodeFailure,
  NodeRequest,
  NodeResponse,
  NodeWorkerData,
} from './messages.ts';
import {
  opened,
  type Parcel,
  ParcelPacker,
  packedParameters,
  type SealedParcel,
  unpacked,
  unpackedParameters,
} from './parcel.ts';

const port = definite(parentPort, "the worker's port");
const data = workerData as NodeWorkerData;

/** What is said so soon after the last parcel waits for more of it, at most till the model gives the thread back. */
const gatheringMs = 1;

const packer = new ParcelPacker<NodeEvent>();
let flushedMs = 0;

function flush(): void {
  if (packer.isEmpty) return;
  const { sealed, transfer } = packer.seal();
  flushedMs = sealed.sentMs;
  port.postMessage(sealed, transfer);
}

function post(event: NodeEvent, atMs = performance.now()): void {
  const { isEmpty } = packer;
  packer.add(event);
  // A model that computes between its responses never gives the thread back: each goes at once then.
  if (atMs - flushedMs > gatheringMs) flush();
  else if (isEmpty) setImmediate(flush);
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

function packed(tensors: readonly Tensor[]) {
  return tensors.map((tensor) => packer.pack(tensor));
}

interface Answer {
  outputs?: Tensor[];
  parameters?: Parameters;
  error?: unknown;
}

function responseOf({ outputs = [], parameters, error }: Answer): NodeResponse {
  if (error === undefined) return { outputs: packed(outputs), parameters: packedParameters(parameters) };
  return { outputs: [], error: failureOf(typeof error === 'string' ? new ModelError(error) : error) };
}

/** One request as a model sees it. */
class ModelRequest {
  readonly id: string;
  readonly inputs: readonly Tensor[];
  readonly requestedOutputs: readonly string[] | undefined;
  readonly parameters: Parameters;
  readonly #number: number;
  /** Made when it is asked for: most models never look. */
  #controller: AbortController | undefined;
  #isCancelled = false;
  #isFinal = false;
  /** When its batch began. */
  startedMs = 0;

  constructor(request: NodeRequest, parcel: Parcel<NodeCommand>) {
    this.#number = request.number;
    this.id = request.id;
    this.inputs = request.inputs.map((tensor) => unpacked(tensor, parcel));
    this.requestedOutputs = request.outputs;
    this.parameters = unpackedParameters(request.parameters);
  }

  /** The input of that name, if the client sent it. */
  input(name: string): Tensor | undefined {
    return this.inputs.find((tensor) => tensor.name === name);
  }

  /** Aborts when the client gives up. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#isCancelled) this.#controller.abort();
    return this.#controller.signal;
  }

  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** Sends one response; decoupled models any number of them. */
  send(answer: Answer, { final = false } = {}): void {
    if (!this.#isFinal) this.#respond(responseOf(answer), final);
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
    this.#isCancelled = true;
    this.#controller?.abort();
  }

  #respond(response: NodeResponse | undefined, isFinal: boolean): void {
    if (this.#isFinal) return;
    this.#isFinal = isFinal;
    if (isFinal) requests.delete(this.#number);
    const atMs = performance.now();
    const { startedMs } = this;
    post({ kind: 'response', number: this.#number, response, isFinal, startedMs, atMs }, atMs);
  }
}

const requests = new Map<number, ModelRequest>();

/** Another model's response, as a model sees it. */
interface CallResponse {
  outputs: Tensor[];
  parameters?: Parameters;
}

interface OpenCall {
  queue: { response: NodeResponse; parcel: Parcel<NodeCommand> }[];
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
async function* stream(model: string, request: CallRequest): AsyncGenerator<CallResponse> {
  const call = callCounter++;
  const open: OpenCall = { queue: [], isFinal: false, wake: () => {} };
  calls.set(call, open);
  const { inputs, outputs, parameters = {}, id = '', version = '', signal } = request;
  const cancel = (): void => {
    open.isFinal = true;
    open.wake();
  };
  signal?.addEventListener('abort', cancel, { once: true });
  const asked = { id, inputs: packed(inputs), outputs, parameters: packedParameters(parameters) };
  post({ kind: 'call', call, model, version, request: asked });
  try {
    for (;;) {
      for (let next = open.queue.shift(); next; next = open.queue.shift()) {
        const { error, outputs: answered, parameters: said } = next.response;
        if (error) throw new ModelError(error.message, error.status);
        const { parcel } = next;
        const tensors = answered.map((tensor) => unpacked(tensor, parcel));
        yield { outputs: tensors, parameters: said && unpackedParameters(said) };
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
async function infer(model: string, request: CallRequest): Promise<CallResponse | undefined> {
  let last: CallResponse | undefined;
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

/** Runs a batch. A returned list answers the requests in order; models may also send by themselves. */
async function execute(
  instance: ModelInstance,
  batch: number,
  given: readonly ModelRequest[],
): Promise<void> {
  // Some were cancelled while they waited for the batch before.
  const list = given.filter((request) => !request.isCancelled);
  const startedMs = performance.now();
  for (const request of list) request.startedMs = startedMs;
  try {
    const answers: unknown = list.length > 0 ? await instance.execute(list) : undefined;
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

let lastBatch = Promise.resolve();

function handle(instance: ModelInstance, command: NodeCommand, parcel: Parcel<NodeCommand>): void {
  if (command.kind === 'execute') {
    const list = command.requests.map((request) => {
      const one = new ModelRequest(request, parcel);
      requests.set(request.number, one);
      return one;
    });
    lastBatch = lastBatch.then(() => execute(instance, command.batch, list));
  } else if (command.kind === 'cancel') {
    requests.get(command.number)?.cancel();
  } else if (command.kind === 'called') {
    const open = calls.get(command.call);
    if (!open) return;
    if (command.response) open.queue.push({ response: command.response, parcel });
    open.isFinal ||= command.isFinal;
    open.wake();
  } else {
    const done = (): void => {
      post({ kind: 'finalized' });
      flush();
    };
    Promise.resolve(instance.finalize?.()).then(done, done);
  }
}

start().then(
  (instance) => {
    port.on('message', (sealed: SealedParcel) => {
      const parcel = opened<NodeCommand>(sealed);
      for (const command of parcel.messages) handle(instance, command, parcel);
    });
    post({ kind: 'ready' });
  },
  (thrown: unknown) => post({ kind: 'failed', message: messageOf(thrown) }),
);
