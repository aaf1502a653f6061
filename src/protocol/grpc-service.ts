import type { MethodDefinition, UntypedHandleCall } from '@grpc/grpc-js';
import { grpcAdministrationBytesMax } from './limits.ts';
import { type MessageCodec, messageCodec } from './proto-messages.ts';

/** Answers that are encoded already: what they weigh must be known before they are sent. */
export const encodedCodec: MessageCodec<Buffer> = {
  encode: (message) => message,
  decode: (bytes) => Buffer.from(bytes),
};

/** One RPC of a service. */
export interface GrpcMethod {
  /** As in the .proto. */
  name: string;
  requestStream?: boolean;
  responseStream?: boolean;
  /** grpc-js's handler for the method's kind (unary, server streaming, …). */
  handler: UntypedHandleCall;
  /** What a request may have. Default: {@link grpcAdministrationBytesMax} for those without a codec of their own. */
  requestBytesMax?: number;
  /** A codec by hand, for the token path. Default: the messages `NAMERequest` and `NAMEResponse` by protobufjs. */
  request?: MessageCodec<never>;
  response?: MessageCodec<never>;
}

/** A service of a .proto file with its handlers, ready for `startGrpcServer`. */
export interface GrpcService {
  /** With its package: 'inference.GRPCInferenceService'. */
  name: string;
  /** In `proto/`. */
  protoFile: string;
  methods: readonly GrpcMethod[];
}

/** grpc-js's definition and implementation of a service. */
export interface GrpcBinding {
  definition: Record<string, MethodDefinition<unknown, unknown>>;
  implementation: Record<string, UntypedHandleCall>;
}

/**
 * Binds a service's methods to paths and codecs.
 * @param onAnswer told of the bytes of each answer
 */
export function bindService(
  { name, protoFile, methods }: GrpcService,
  onAnswer: (bytes: number) => void,
): GrpcBinding {
  const packageName = name.slice(0, name.lastIndexOf('.'));
  const definition: GrpcBinding['definition'] = {};
  const implementation: GrpcBinding['implementation'] = {};
  for (const method of methods) {
    const codec = (given: MessageCodec<never> | undefined, suffix: string): MessageCodec<unknown> =>
      (given ?? messageCodec(protoFile, `${packageName}.${method.name}${suffix}`)) as MessageCodec<unknown>;
    const request = codec(method.request, 'Request');
    const response = codec(method.response, 'Response');
    const bytesMax =
      method.requestBytesMax ?? (method.request ? Number.POSITIVE_INFINITY : grpcAdministrationBytesMax);
    definition[method.name] = {
      path: `/${name}/${method.name}`,
      requestStream: method.requestStream ?? false,
      responseStream: method.responseStream ?? false,
      requestSerialize: (message) => request.encode(message),
      requestDeserialize: (bytes) => {
        if (bytes.length > bytesMax) throw new RangeError(`a request is over ${bytesMax} bytes`);
        return request.decode(bytes);
      },
      responseSerialize: (message) => {
        const bytes = response.encode(message);
        onAnswer(bytes.length);
        return bytes;
      },
      responseDeserialize: (bytes) => response.decode(bytes),
    };
    implementation[method.name] = method.handler;
  }
  return { definition, implementation };
}
