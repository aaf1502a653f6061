import type { ServerUnaryCall, sendUnaryData, UntypedHandleCall } from '@grpc/grpc-js';
import { RepositoryError } from '../../repository/errors.ts';
import type { KeyUse } from '../authentication.ts';
import { eagerCodec } from '../grpc-eager-writes.ts';
import { encodedCodec, type GrpcMethod, type GrpcService } from '../grpc-service.ts';
import { grpcModelLoadBytesMax } from '../limits.ts';
import type { PlainMessage } from '../proto-messages.ts';
import { grpcAdministration } from './administration-grpc.ts';
import type { RestrictedApi, TritonContext } from './context.ts';
import { grpcError } from './errors.ts';
import { admit, beginRequest } from './grpc-admission.ts';
import { parseInferMessage } from './grpc-requests.ts';
import { streamHandler } from './grpc-stream.ts';
import { checkVersion } from './grpc-versions.ts';
import { encodeInferResponse, inferRequestCodec, type WireInferRequest } from './messages.ts';
import { wireOutputs } from './outputs.ts';
import { chargedTo } from './requests.ts';

const decoupledRefusal = "ModelInfer RPC doesn't support models with decoupled transaction policy";

/** KServe's `inference.GRPCInferenceService` over a repository, for `startGrpcServer`. */
export function tritonService(context: TritonContext): GrpcService {
  const administration = grpcAdministration.map(
    ({ name, api, answer }): GrpcMethod => ({
      name,
      ...(name === 'RepositoryModelLoad' && { requestBytesMax: grpcModelLoadBytesMax }),
      handler: unary(context, api, (call: ServerUnaryCall<PlainMessage, PlainMessage>, done) => {
        // Most answers are there at once; a promise only where models load.
        const answered = answer(context, call.request);
        if (!(answered instanceof Promise)) done(null, answered);
        else
          answered.then(
            (message) => done(null, message),
            (thrown) => done(grpcError(thrown)),
          );
      }),
    }),
  );
  return {
    name: 'inference.GRPCInferenceService',
    protoFile: 'grpc_service.proto',
    methods: [
      ...administration,
      {
        name: 'ModelInfer',
        request: inferRequestCodec as never,
        response: encodedCodec as never,
        handler: unary(context, 'inference', (call: ServerUnaryCall<WireInferRequest, Buffer>, done, key) =>
          infer(context, call, done, key),
        ),
      },
      {
        name: 'ModelStreamInfer',
        requestStream: true,
        responseStream: true,
        request: inferRequestCodec as never,
        response: eagerCodec as never,
        handler: streamHandler(context),
      },
    ],
  };
}

type UnaryHandler<Q, A> = (
  call: ServerUnaryCall<Q, A>,
  done: sendUnaryData<A>,
  key: KeyUse | undefined,
) => void;

/** A unary handler that checks restrictions first and answers what is thrown. */
function unary<Q, A>(
  context: TritonContext,
  api: RestrictedApi,
  handle: UnaryHandler<Q, A>,
): UntypedHandleCall {
  const handler = (call: ServerUnaryCall<Q, A>, done: sendUnaryData<A>): void => {
    const admission = admit(context, api, call.metadata);
    if ('refusal' in admission) {
      done(admission.refusal);
      return;
    }
    let end = (): void => {};
    const answer: sendUnaryData<A> = (...answer) => {
      end();
      done(...answer);
    };
    try {
      end = beginRequest(admission.key);
      call.on('cancelled', end);
      handle(call, answer, admission.key);
    } catch (thrown) {
      answer(grpcError(thrown));
    }
  };
  return handler as UntypedHandleCall;
}

function infer(
  context: TritonContext,
  call: ServerUnaryCall<WireInferRequest, Buffer>,
  done: sendUnaryData<Buffer>,
  key: KeyUse | undefined,
): void {
  const message = call.request;
  checkVersion(message.modelVersion);
  const model = context.repository.model(message.modelName, message.modelVersion);
  if (model.isDecoupled) throw new RepositoryError('UNSUPPORTED', decoupledRefusal);
  const { request, wishes } = parseInferMessage(message, context.sharedMemory);
  const inference = model.infer(chargedTo(key, request), {
    respond: (response) => {
      try {
        if (response?.error) throw response.error;
        const outputs = wireOutputs(response?.outputs ?? [], wishes, true, model, context.sharedMemory);
        const head = { modelName: model.name, modelVersion: model.version, id: request.id };
        done(null, encodeInferResponse(head, { outputs, parameters: response?.parameters }));
      } catch (thrown) {
        done(grpcError(thrown));
      }
    },
  });
  call.on('cancelled', () => inference.cancel());
}
