import { totalmem } from 'node:os';
import { Server, ServerCredentials, type ServerOptions } from '@grpc/grpc-js';
import { type ClientBounds, clientBounds } from './client-bounds.ts';
import { GrpcCalls } from './grpc-calls.ts';
import { GrpcCertificates } from './grpc-certificates.ts';
import { GrpcConnections } from './grpc-connections.ts';
import { eagerWrites } from './grpc-eager-writes.ts';
import { GrpcHealth } from './grpc-health.ts';
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
  /** Bounds what clients may take; to be shared by all servers of a process. Default: some of its own. */
  bounds?: ClientBounds;
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
  /** Shows other certificates from now on. */
  setTls(tls: TlsMaterial): void;
  /** Takes no new calls, waits so long for the running ones (default: {@link closeTimeoutMs}) and ends the others. */
  close(timeoutMs?: number): Promise<void>;
}

/** How long running calls may go on where nobody says. */
const closeTimeoutMs = 1_000;

/**
 * Starts the gRPC port with the standard health service (`grpc.health.v1.Health`, what Kubernetes' gRPC probes call).
 * @throws Error `EADDRINUSE` and the like
 */
export async function startGrpcServer(options: GrpcServerOptions): Promise<RunningGrpcServer> {
  const bounds = options.bounds ?? clientBounds();
  const connections = new GrpcConnections(bounds.places, (socket) => injector.injectConnection(socket));
  const calls = new GrpcCalls(bounds, (peer) => connections.begin(peer));
  const server = new Server({
    ...channelOptions(options.limits ?? {}),
    // The first one gets grpc-js's own call, which the second wraps.
    interceptors: [calls.interceptor, eagerWrites],
  });
  const services = options.services ?? [];
  for (const service of services) {
    const { definition, implementation } = bindService(service, (bytes) => calls.answered(bytes));
    server.addService(definition, implementation);
  }
  addReflection(server, ['health.proto', ...services.map((service) => service.protoFile)]);
  const health = new GrpcHealth();
  const update = (): void => {
    for (const [service, isReady] of Object.entries(options.readiness())) {
      health.setStatus(service, isReady ? 'SERVING' : 'NOT_SERVING');
    }
  };
  update();
  health.addToServer(server);
  const certificates = options.tls && new GrpcCertificates(options.tls);
  const injector = server.createConnectionInjector(
    certificates?.credentials() ?? ServerCredentials.createInsecure(),
  );
  const port = await connections.listen(options.host, options.port);
  const timer = setInterval(update, healthIntervalMs);
  timer.unref();
  return {
    port,
    setTls: (tls) => certificates?.replace(tls),
    close: (timeoutMs = closeTimeoutMs) => {
      clearInterval(timer);
      connections.close();
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

/** As tritonserver has it, but a quarter of the machine's (or container's) memory where that is less. */
function receivedMessageBytesMax(): number {
  const memoryBytes = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  return Math.min(limits.grpcReceivedMessageBytesMax, Math.floor(memoryBytes / 4));
}

function channelOptions(given: GrpcLimits): ServerOptions {
  const options: ServerOptions = {
    'grpc.max_receive_message_length': given.receivedMessageBytesMax ?? receivedMessageBytesMax(),
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
