import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { messageCodec } from '../../protocol/proto-messages.ts';
import type { DataType, Tensor } from '../../repository/tensor.ts';
import { CliError } from '../errors.ts';

const protoFile = 'grpc_service.proto';
const service = '/inference.GRPCInferenceService';
const messageBytesMax = 2 ** 31 - 1;

/** One request as these clients make it. */
export interface ClientRequest {
  model: string;
  id: string;
  inputs: readonly Tensor[];
  /** Absent: all. */
  outputs?: readonly string[];
}

/** One response. */
export interface ClientResponse {
  id: string;
  outputs: Map<string, Tensor>;
  /** Nothing follows for this id. */
  isFinal: boolean;
  error: string | undefined;
}

interface ResponseMessage {
  id?: string;
  parameters?: Record<string, { bool_param?: boolean }>;
  outputs?: { name: string; datatype: DataType; shape: number[] }[];
  raw_output_contents?: Buffer[];
}

const request = messageCodec(protoFile, 'inference.ModelInferRequest');
const unaryResponse = messageCodec(protoFile, 'inference.ModelInferResponse');
const streamResponse = messageCodec(protoFile, 'inference.ModelStreamInferResponse');

/** A KServe gRPC connection. */
export class KserveConnection {
  readonly #client: Client;

  /** @param url host:port */
  constructor(url: string) {
    this.#client = new Client(url, credentials.createInsecure(), {
      'grpc.max_receive_message_length': messageBytesMax,
      'grpc.max_send_message_length': messageBytesMax,
    });
  }

  /** One request, one response. `signal` cancels it. @throws CliError */
  infer(asked: ClientRequest, signal?: AbortSignal): Promise<ClientResponse> {
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        `${service}/ModelInfer`,
        (message: object) => request.encode(message as never),
        (bytes) => unaryResponse.decode(bytes),
        messageOf(asked, false),
        new Metadata(),
        (error, message) => {
          if (error) reject(failure(error));
          else resolve({ ...responseOf((message ?? {}) as ResponseMessage), isFinal: true });
        },
      );
      signal?.addEventListener('abort', () => call.cancel(), { once: true });
    });
  }

  /** A bidirectional stream; responses of all its requests come to `onResponse`. */
  stream(onResponse: (response: ClientResponse) => void): ClientStream {
    const call = this.#client.makeBidiStreamRequest(
      `${service}/ModelStreamInfer`,
      (message: object) => request.encode(message as never),
      (bytes) => streamResponse.decode(bytes),
      new Metadata(),
    );
    call.on('data', (message: { error_message?: string; infer_response?: ResponseMessage }) => {
      const response = responseOf(message.infer_response ?? {});
      const error = message.error_message || undefined;
      onResponse({ ...response, error, isFinal: response.isFinal || error !== undefined });
    });
    const ended = new Promise<'done' | 'cancelled'>((resolve, reject) => {
      call.on('end', () => resolve('done'));
      call.on('error', (error: ServiceError) => {
        if (error.code === status.CANCELLED) resolve('cancelled');
        else reject(failure(error));
      });
    });
    // Whoever waits for the end hears of it.
    ended.catch(() => {});
    return {
      send: (asked) => call.write(messageOf(asked, true)),
      end: () => call.end(),
      cancel: () => call.cancel(),
      ended,
    };
  }

  close(): void {
    this.#client.close();
  }
}

/** An open stream. */
export interface ClientStream {
  send(request: ClientRequest): void;
  /** No more requests; the running ones finish. */
  end(): void;
  cancel(): void;
  /** @throws CliError when the server ended it otherwise */
  ended: Promise<'done' | 'cancelled'>;
}

function messageOf({ model, id, inputs, outputs }: ClientRequest, isStream: boolean): object {
  return {
    model_name: model,
    id,
    inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
    outputs: outputs?.map((name) => ({ name })),
    raw_input_contents: inputs.map(({ data }) => data),
    // The last response of a request is then always marked, if need be by an empty one.
    parameters: isStream ? { triton_enable_empty_final_response: { bool_param: true } } : {},
  };
}

function responseOf(message: ResponseMessage): ClientResponse {
  const outputs = (message.outputs ?? []).map(({ name, datatype, shape }, index): [string, Tensor] => {
    const data = message.raw_output_contents?.[index] ?? Buffer.alloc(0);
    return [name, { name, datatype, shape, data }];
  });
  return {
    id: message.id ?? '',
    outputs: new Map(outputs),
    isFinal: message.parameters?.triton_final_response?.bool_param ?? false,
    error: undefined,
  };
}

function failure(error: ServiceError): CliError {
  const cancelled = error.code === status.CANCELLED;
  const text = cancelled ? 'the request was cancelled' : error.details || error.message;
  const options = { cause: error, usage: false };
  return new CliError(cancelled ? 'REQUEST_CANCELLED' : 'REQUEST_REFUSED', text, options);
}
