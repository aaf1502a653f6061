import {
  type Server,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { healthServiceNameBytesMax } from './limits.ts';

type Asked = { request: { service: string } };
type Watch = ServerWritableStream<{ service: string }, unknown>;

/** The standard health service, which keeps nothing of what clients asked once they are gone. */
export class GrpcHealth {
  readonly #health = new HealthImplementation();

  setStatus(service: string, value: 'SERVING' | 'NOT_SERVING'): void {
    this.#health.setStatus(service, value);
  }

  addToServer(server: Server): void {
    const bounded: Pick<Server, 'addService'> = {
      addService: (service, implementation) => {
        const { watch, check } = implementation as unknown as {
          watch: (call: Watch) => void;
          check: (call: Asked, done: sendUnaryData<unknown>) => void;
        };
        const handlers = {
          ...implementation,
          check: (call: ServerUnaryCall<{ service: string }, unknown>, done: sendUnaryData<unknown>) => {
            if (isLong(call)) done(nameTooLong);
            else check(call, done);
          },
          watch: (call: Watch) => this.#watch(call, watch),
        };
        server.addService(service, handlers);
      },
    };
    this.#health.addToServer(bounded as Server);
  }

  #watch(call: Watch, watch: (call: Watch) => void): void {
    if (isLong(call)) {
      call.emit('error', nameTooLong);
      return;
    }
    watch(call);
    // After the library's own listener. It keeps a set for every name that anybody ever watched.
    call.on('cancelled', () => {
      const { watchers } = this.#health as unknown as { watchers: Map<string, Set<unknown>> };
      if (watchers.get(call.request.service)?.size === 0) watchers.delete(call.request.service);
    });
  }
}

const nameTooLong = {
  code: status.INVALID_ARGUMENT,
  details: `the service name is over ${healthServiceNameBytesMax} bytes (healthServiceNameBytesMax)`,
};

function isLong({ request }: Asked): boolean {
  return Buffer.byteLength(request.service) > healthServiceNameBytesMax;
}
