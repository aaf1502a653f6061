import type { ServerDuplexStream, UntypedHandleCall } from '@grpc/grpc-js';
import { streamBufferBytesMax } from '../../base/limits.ts';
import { type RepositoryError, toRepositoryError } from '../../repository/errors.ts';
import type { Inference, InferResponse, Model } from '../../repository/model.ts';
import type { KeyUse } from '../authentication.ts';
import { EagerMessage } from '../grpc-eager-writes.ts';
import type { TritonContext } from './context.ts';
import { grpcError, grpcResourceExhausted } from './errors.ts';
import { admit, beginRequest } from './grpc-admission.ts';
import { parseInferMessage } from './grpc-requests.ts';
import { checkVersion } from './grpc-versions.ts';
import { encodeStreamResponse, type ResponseHead, type WireInferRequest } from './messages.ts';
import { wireOutputs } from './outputs.ts';
import { chargedTo, type ParsedRequest } from './requests.ts';

type Call = ServerDuplexStream<WireInferRequest, EagerMessage>;

/** Requests of one stream that are under way; the stream is read no further until one ends. */
export const streamRequestsMax = 4096;

/** With this metadata the first failed request ends the stream with a gRPC status. */
const strictErrors = 'triton_grpc_error';

/** The handler of `ModelStreamInfer`. */
export function streamHandler(context: TritonContext): UntypedHandleCall {
  const handler = (call: Call): void => {
    const admission = admit(context, 'inference', call.metadata);
    if ('refusal' in admission) call.emit('error', admission.refusal);
    else new InferenceStream(context, call, admission.key).start();
  };
  return handler as UntypedHandleCall;
}

/** One answer that must wait for those before it: of a model that is not decoupled, or a refusal. */
interface OrderedAnswer {
  isDone?: boolean;
  message?: Buffer;
  /** Ends the stream instead. */
  error?: RepositoryError;
}

/**
 * One call of `ModelStreamInfer`. Requests run side by side; models that are not decoupled answer in the order of their requests,
 * decoupled ones as their responses come. Everything ends with the call.
 */
class InferenceStream {
  readonly #context: TritonContext;
  readonly #call: Call;
  readonly #key: KeyUse | undefined;
  readonly #bufferBytesMax: number;
  readonly #isStrict: boolean;
  readonly #running = new Set<Inference>();
  readonly #ordered: OrderedAnswer[] = [];
  /** End the open requests for their key. */
  readonly #ends = new Set<() => void>();
  #openRequests = 0;
  #unreadBytes = 0;
  #halfClosed = false;
  #over = false;

  /** @param key whose call it is: each message of it is a request */
  constructor(context: TritonContext, call: Call, key: KeyUse | undefined) {
    this.#context = context;
    this.#call = call;
    this.#key = key;
    this.#bufferBytesMax = context.options.streamBufferBytesMax ?? streamBufferBytesMax;
    this.#isStrict = call.metadata.get(strictErrors)[0] === 'true';
  }

  start(): void {
    this.#call.on('data', (message: WireInferRequest) => this.#accept(message));
    this.#call.on('end', () => {
      this.#halfClosed = true;
      this.#endWhenDone();
    });
    this.#call.on('cancelled', () => this.#stop());
    this.#call.on('error', () => this.#stop());
  }

  #accept(message: WireInferRequest): void {
    if (this.#over) return;
    if (++this.#openRequests >= streamRequestsMax) this.#call.pause();
    let end: (() => void) | undefined;
    try {
      end = beginRequest(this.#key);
      this.#ends.add(end);
      checkVersion(message.modelVersion);
      const model = this.#context.repository.model(message.modelName, message.modelVersion);
      const parsed = parseInferMessage(message, this.#context.sharedMemory);
      this.#infer(model, message, parsed, end);
    } catch (thrown) {
      const head = { modelName: '', modelVersion: '', id: message.id };
      const refusal = encodeStreamResponse(head, { outputs: [] }, toRepositoryError(thrown).message);
      this.#ordered.push({ isDone: true, message: refusal });
      this.#requestDone(end);
    }
  }

  #infer(model: Model, message: WireInferRequest, parsed: ParsedRequest, end: () => void): void {
    const slot: OrderedAnswer | undefined = model.isDecoupled ? undefined : {};
    let inference: Inference | undefined;
    let isDone = false;
    const listener = {
      respond: (response: InferResponse | undefined, isFinal: boolean): void => {
        if (this.#over) return;
        const answer = this.#answer(model, message, parsed, response, isFinal);
        if (slot) Object.assign(slot, answer, { isDone: isFinal });
        else this.#send(answer);
        if (!isFinal) return;
        isDone = true;
        if (inference) this.#running.delete(inference);
        this.#requestDone(end);
      },
    };
    // In its place before the model can answer; a refusal takes it out again.
    if (slot) this.#ordered.push(slot);
    try {
      inference = model.infer(chargedTo(this.#key, parsed.request), listener);
    } catch (thrown) {
      if (slot) this.#ordered.splice(this.#ordered.indexOf(slot), 1);
      throw thrown;
    }
    if (!isDone) this.#running.add(inference);
    if (this.#over) inference.cancel();
  }

  /** A response as it goes on the wire. A final one without tensors is sent only to those who asked for it. */
  #answer(
    model: Model,
    message: WireInferRequest,
    { request, wishes, parameters }: ParsedRequest,
    response: InferResponse | undefined,
    isFinal: boolean,
  ): OrderedAnswer {
    const head = { modelName: model.name, modelVersion: model.version, id: request.id };
    // These two answers carry the version that was asked for, "" if none was.
    const bareHead = { ...head, modelVersion: message.modelVersion };
    if (!response) {
      return parameters.emptyFinal
        ? { message: encodeStreamResponse(bareHead, { outputs: [], isFinal }) }
        : {};
    }
    if (response.error) return this.#failure(bareHead, response.error, isFinal);
    try {
      const outputs = wireOutputs(response.outputs, wishes, true, model, this.#context.sharedMemory);
      return { message: encodeStreamResponse(head, { outputs, parameters: response.parameters, isFinal }) };
    } catch (thrown) {
      return this.#failure(bareHead, toRepositoryError(thrown), isFinal);
    }
  }

  #failure(head: ResponseHead, error: RepositoryError, isFinal: boolean): OrderedAnswer {
    if (this.#isStrict) return { error };
    return { message: encodeStreamResponse(head, { outputs: [], isFinal }, error.message) };
  }

  #send({ message, error }: OrderedAnswer): void {
    if (this.#over) return;
    if (error) {
      this.#stop();
      this.#call.emit('error', grpcError(error));
      return;
    }
    if (!message) return;
    const bytes = message.length;
    this.#unreadBytes += bytes;
    this.#call.write(
      new EagerMessage(message, () => {
        this.#unreadBytes -= bytes;
      }),
    );
    // What one response weighs is the model's affair; a client that reads must not lose its stream for that.
    if (this.#unreadBytes <= this.#bufferBytesMax + bytes) return;
    this.#stop();
    const details = `the client left over ${this.#bufferBytesMax} bytes of responses unread; read faster, or ask for less at a time`;
    this.#call.emit('error', { code: grpcResourceExhausted, details });
  }

  #requestDone(end: (() => void) | undefined): void {
    if (end) {
      this.#ends.delete(end);
      end();
    }
    for (let next = this.#ordered[0]; next?.isDone; next = this.#ordered[0]) {
      this.#ordered.shift();
      this.#send(next);
    }
    if (--this.#openRequests < streamRequestsMax && this.#call.isPaused()) this.#call.resume();
    this.#endWhenDone();
  }

  #endWhenDone(): void {
    if (this.#over || !this.#halfClosed || this.#openRequests > 0) return;
    this.#over = true;
    this.#call.end();
  }

  #stop(): void {
    this.#over = true;
    for (const end of this.#ends) end();
    this.#ends.clear();
    for (const inference of this.#running) inference.cancel();
    this.#running.clear();
  }
}
