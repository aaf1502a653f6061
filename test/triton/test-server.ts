import type { AddressInfo } from 'node:net';
import { Client, credentials } from '@grpc/grpc-js';
import { startGrpcServer } from '../../src/protocol/grpc-server.ts';
import { createHttpServer } from '../../src/protocol/http-server.ts';
import { errorResponse as openAiErrors } from '../../src/protocol/openai/errors.ts';
import type { TlsMaterial } from '../../src/protocol/tls.ts';
import { createTritonContext, type TritonOptions } from '../../src/protocol/triton/context.ts';
import { errorResponse } from '../../src/protocol/triton/errors.ts';
import { tritonService } from '../../src/protocol/triton/grpc.ts';
import { addTriton } from '../../src/protocol/triton/server.ts';

/** Both ports of the Triton front end over a repository. */
export interface TritonServer {
  httpPort: number;
  grpcPort: number;
  client: Client;
  close(): Promise<void>;
}

/** Starts HTTP and gRPC on free ports, with a gRPC client of our own. */
export async function tritonServer(
  options: Partial<TritonOptions> & Pick<TritonOptions, 'repository'>,
  tls?: TlsMaterial,
): Promise<TritonServer> {
  const context = createTritonContext({ version: '2.51.0', ...options });
  const app = createHttpServer({
    errorResponse: openAiErrors,
    errorResponseOfPath: { '/v2': errorResponse },
  });
  addTriton(app, context, { bodyBytesMax: 64 * 1024 * 1024 });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const readiness = () => ({ '': true });
  const grpc = await startGrpcServer({
    host: '127.0.0.1',
    port: 0,
    readiness,
    services: [tritonService(context)],
    tls,
  });
  const client = new Client(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
  return {
    httpPort: (app.server.address() as AddressInfo).port,
    grpcPort: grpc.port,
    client,
    close: async () => {
      client.close();
      await grpc.close();
      await app.close();
      context.close();
    },
  };
}
