import { Server, ServerCredentials, type ServerOptions } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { eagerWrites } from './grpc-eager-writes.ts';
import { addReflection } from './grpc-reflection.ts';
import { bindService, type GrpcService } from './grpc-service.ts';
import * as limits from './limits.ts';
import type { TlsMaterial } from './tls.ts';

/** How often readiness is copied into the health service's statuses (watchers are told of changes). */
const healthIntervalMs = 250;

/** Where to listen, and what health to report. */
export interface GrpcServerOptions {
  host: string;
  /** 0 picks a free one. */
  port: number;
  /** Readiness by service name; '' stands for the whole server. */
  readiness: () => Readonly<Record<string, boolean>>;
  /** What is served beside health and reflection. */
  services?: readonly GrpcService[];
  limits?: GrpcLimits;
  /** Absent: plain text. */
  tls?: TlsMaterial;
}

/** Limits of a gRPC server; each has a default of the same name (after `grpc`) in `limits.ts`. */
export interface GrpcLimits {
  receivedMessageBytesMax?: number;
  streamsPerConnectionMax?: number;
  /** How often an idle connection is pinged, and how long the answer may take. */
  keepaliveTimeMs?: number;
  keepaliveTimeoutMs?: number;
  /** A connection older than this is closed when its calls are done; absent: never. */
  connectionAgeMsMax?: number;
  connectionAgeGraceMs?: number;
}

/** A running gRPC server. */
export interface RunningGrpcServer {
  port: number;
  /** Takes no new calls, waits so long for the running ones (default: {@link closeTimeoutMs}) and ends the others. */
  close(timeoutMs?: number): Promise<void>;
}

/** How long running calls may go on where nobody says. */
const closeTimeoutMs = 1_000;

/**
 * Starts the gRPC port with the standard health service (`grpc.health.v1.Health`, what Kubernetes' gRPC probes call).
 * @throws Error `EADDRINUSE` and the like, as grpc-js words them
 */
export async function startGrpcServer(options: GrpcServerOptions): Promise<RunningGrpcServer> {
  const server = new Server(channelOptions(options.limits ?? {}));
  const services = options.services ?? [];
  for (const service of services) {
    const { definition, implementation } = bindService(service);
    server.addService(definition, implementation);
  }
  addReflection(server, ['health.proto', ...services.map((service) => service.protoFile)]);
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
    server.bindAsync(address, credentialsOf(options.tls), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const timer = setInterval(update, healthIntervalMs);
  timer.unref();
  return {
    port,
    close: (timeoutMs = closeTimeoutMs) => {
      clearInterval(timer);
      return new Promise((resolve) => {
        const force = setTimeout(() => server.forceShutdown(), timeoutMs);
        server.tryShutdown(() => {
          clearTimeout(force);
          resolve();
        });
      });
    },
  };
}

function credentialsOf(tls: TlsMaterial | undefined): ServerCredentials {
  if (!tls) return ServerCredentials.createInsecure();
  const pair = { private_key: tls.key, cert_chain: tls.cert };
  return ServerCredentials.createSsl(tls.ca ?? null, [pair], tls.requestCert);
}

function channelOptions(given: GrpcLimits): ServerOptions {
  const options: ServerOptions = {
    interceptors: [eagerWrites],
    'grpc.max_receive_message_length': given.receivedMessageBytesMax ?? limits.grpcReceivedMessageBytesMax,
    // What a model answers is bounded by the model; the peer decides what it takes.
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': given.streamsPerConnectionMax ?? limits.grpcStreamsPerConnectionMax,
    'grpc.keepalive_time_ms': given.keepaliveTimeMs ?? limits.grpcKeepaliveTimeMs,
    'grpc.keepalive_timeout_ms': given.keepaliveTimeoutMs ?? limits.grpcKeepaliveTimeoutMs,
  };
  if (given.connectionAgeMsMax !== undefined)
    options['grpc.max_connection_age_ms'] = given.connectionAgeMsMax;
  if (given.connectionAgeGraceMs !== undefined) {
    options['grpc.max_connection_age_grace_ms'] = given.connectionAgeGraceMs;
  }
  return options;
}
