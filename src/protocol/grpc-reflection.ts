import { createRequire } from 'node:module';
import type { MethodDefinition, Server, ServerDuplexStream, UntypedHandleCall } from '@grpc/grpc-js';
import { protoFolder } from './proto-messages.ts';

const require = createRequire(import.meta.url);
const versions = ['grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'];
const methodName = 'ServerReflectionInfo';

type Call = ServerDuplexStream<unknown, unknown>;

interface BoundReflection {
  definition: MethodDefinition<unknown, unknown>;
  handler: (call: unknown) => void;
}

/**
 * Adds gRPC server reflection (what grpcurl and Postman ask) for our .proto files. Its modules and the descriptors cost tens of
 * milliseconds, so they are made when somebody asks.
 */
export function addReflection(server: Server, protoFiles: readonly string[]): void {
  let bound: Map<string, BoundReflection> | undefined;
  for (const version of versions) {
    const real = (): BoundReflection => {
      bound ??= bindReflection(protoFiles);
      return bound.get(version) as BoundReflection;
    };
    const path = `/${version}/${methodName}`;
    const definition: MethodDefinition<unknown, unknown> = {
      path,
      requestStream: true,
      responseStream: true,
      requestSerialize: (message) => real().definition.requestSerialize(message),
      requestDeserialize: (bytes) => real().definition.requestDeserialize(bytes),
      responseSerialize: (message) => real().definition.responseSerialize(message),
      responseDeserialize: (bytes) => real().definition.responseDeserialize(bytes),
    };
    const handler = (call: Call): void => {
      real().handler(call);
      readAsAnswered(call);
    };
    server.addService({ [methodName]: definition }, { [methodName]: handler as UntypedHandleCall });
  }
}

/** Each request is answered: a client that does not read its answers is asked for no more requests. */
function readAsAnswered(call: Call): void {
  call.on('data', () => {
    if (call.writableNeedDrain) call.pause();
  });
  call.on('drain', () => call.resume());
}

function bindReflection(protoFiles: readonly string[]): Map<string, BoundReflection> {
  const { loadSync } = require('@grpc/proto-loader') as typeof import('@grpc/proto-loader');
  const { ReflectionService } = require('@grpc/reflection') as typeof import('@grpc/reflection');
  const definition = loadSync([...protoFiles], { includeDirs: [protoFolder], keepCase: true });
  const bound = new Map<string, BoundReflection>();
  const collector: Pick<Server, 'addService'> = {
    addService: (service, implementation) => {
      const method = service[methodName] as MethodDefinition<unknown, unknown>;
      const version = method.path.split('/')[1] as string;
      const handler = implementation[methodName] as unknown as BoundReflection['handler'];
      bound.set(version, { definition: method, handler: handler.bind(implementation) });
    },
  };
  new ReflectionService(definition).addToServer(collector);
  return bound;
}
