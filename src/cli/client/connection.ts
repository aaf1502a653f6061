import { readFileSync } from 'node:fs';
import {
  type ChannelCredentials,
  Client,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { messageOf as messageOfError } from '../../base/errors.ts';
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
const streamResponse = messageCodec(protoFile, 'inference.ModelStreamInferResponse');

/** gRPC's names of what messages are packed with, and its numbers of them. */
export const compressions = { none: 0, deflate: 1, gzip: 2 } as const;

/** How a connection is made; the flags of the original clients. */
export interface ConnectionFlags {
  /** TLS. */
  ssl?: boolean;
  /** PEM files. */
  rootCertificates?: string;
  privateKey?: string;
  certificateChain?: string;
  grpcCompressionAlgorithm?: keyof typeof compressions;
  /** Seconds that a stream may take; absent: for ever. */
  streamTimeout?: number;
}

/** A KServe gRPC connection. */
export class KserveConnection {
  readonly #client: Client;
  readonly #timeoutMs: number | undefined;

  /** @param url host:port. @throws CliError CLI_VALUE_INVALID for certificates that cannot be read */
  constructor(url: string, flags: ConnectionFlags = {}) {
    this.#timeoutMs = flags.streamTimeout === undefined ? undefined : flags.streamTimeout * 1000;
    this.#client = new Client(url, credentialsOf(flags), {
      'grpc.max_receive_message_length': messageBytesMax,
      'grpc.max_send_message_length': messageBytesMax,
      'grpc.default_compression_algorithm': compressions[flags.grpcCompressionAlgorithm ?? 'none'],
    });
  }

  /** A bidirectional stream; responses of all its requests come to `onResponse`. */
  stream(onResponse: (response: ClientResponse) => void): ClientStream {
    const call = this.#client.makeBidiStreamRequest(
      `${service}/ModelStreamInfer`,
      (message: object) => request.encode(message as never),
      (bytes) => streamResponse.decode(bytes),
      new Metadata(),
      this.#timeoutMs === undefined ? {} : { deadline: Date.now() + this.#timeoutMs },
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
      send: (asked) => call.write(messageOf(asked)),
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

function credentialsOf(flags: ConnectionFlags): ChannelCredentials {
  if (!flags.ssl) return credentials.createInsecure();
  try {
    const [root = null, key = null, chain = null] = [
      flags.rootCertificates,
      flags.privateKey,
      flags.certificateChain,
    ].map((path) => (path === undefined ? undefined : readFileSync(path)));
    return credentials.createSsl(root, key, chain);
  } catch (cause) {
    const text = `the certificates cannot be used (${messageOfError(cause)}); give PEM files`;
    throw new CliError('CLI_VALUE_INVALID', text, { cause });
  }
}

function messageOf({ model, id, inputs, outputs }: ClientRequest): object {
  return {
    model_name: model,
    id,
    inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
    outputs: outputs?.map((name) => ({ name })),
    raw_input_contents: inputs.map(({ data }) => data),
    // The last response of a request is then always marked, if need be by an empty one.
    parameters: { triton_enable_empty_final_response: { bool_param: true } },
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
