import { Server, ServerCredentials } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';

/** How often readiness is copied into the health service's statuses (watchers are told of changes). */
const healthIntervalMs = 250;

/** Where to listen, and what health to report. */
export interface GrpcServerOptions {
  host: string;
  /** 0 picks a free one. */
  port: number;
  /** Readiness by service name; '' stands for the whole server. */
  readiness: () => Readonly<Record<string, boolean>>;
}

/** A running gRPC server; the Triton and Briton services will register on it. */
export interface RunningGrpcServer {
  port: number;
  close(): Promise<void>;
}

/**
 * Starts the gRPC port with the standard health service (`grpc.health.v1.Health`, what Kubernetes' gRPC probes call).
 * @throws Error `EADDRINUSE` and the like, as grpc-js words them
 */
export async function startGrpcServer(options: GrpcServerOptions): Promise<RunningGrpcServer> {
  const server = new Server();
  const health = new HealthImplementation();
  const update = (): void => {
    for (const [service, isReady] of Object.entries(options.readiness())) {
      health.setStatus(service, isReady ? 'SERVING' : 'NOT_SERVING');
    }
  };
  update();
  health.addToServer(server);
  const port = await new Promise<number>((resolve, reject) => {
    const address = `${options.host.includes(':') ? `[${options.host}]` : options.host}:${options.port}`;
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const timer = setInterval(update, healthIntervalMs);
  timer.unref();
  return {
    port,
    close: () => {
      clearInterval(timer);
      return new Promise((resolve) => {
        const force = setTimeout(() => server.forceShutdown(), 1_000);
        server.tryShutdown(() => {
          clearTimeout(force);
          resolve();
        });
      });
    },
  };
}
