import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { packageVersion } from '../../base/package-version.ts';
import type { ApiKeys } from '../../protocol/authentication.ts';
import type { GrpcService } from '../../protocol/grpc-service.ts';
import type { ServerMetrics } from '../../protocol/metrics.ts';
import type { RequestGate } from '../../protocol/request-gate.ts';
import { createTritonContext } from '../../protocol/triton/context.ts';
import { addTritonMetrics } from '../../protocol/triton/metrics.ts';
import { addTriton } from '../../protocol/triton/server.ts';
import type { LogSettings } from '../../protocol/triton/settings.ts';
import type { ModelRepository } from '../../repository/model.ts';
import type { KserveOptions } from './options.ts';

/** What KServe's protocol is added to. */
export interface KserveParts {
  http: FastifyInstance;
  repository: ModelRepository;
  metrics: ServerMetrics;
  gate: RequestGate;
  logger: Logger;
  /** Absent: none is asked for. */
  keys: ApiKeys | undefined;
  notReadyReason: () => string | undefined;
}

/** KServe's protocol on one front end. */
export interface Kserve {
  /** The gRPC side; its modules load when it is asked for. */
  service(): Promise<GrpcService>;
  close(): void;
}

/** Adds KServe v2 to a front end's HTTP app and metrics. */
export function addKserve(parts: KserveParts, options: KserveOptions): Kserve {
  const { http, repository, metrics, gate, logger, keys, notReadyReason } = parts;
  const context = createTritonContext({
    repository,
    version: packageVersion(),
    serverId: options.serverId,
    restrictions: { http: options.httpRestrictions, grpc: options.grpcRestrictions },
    keys,
    applyLogSettings: (settings) => {
      logger.level = levelOf(settings);
    },
    notReadyReason,
  });
  addTriton(http, context, { bodyBytesMax: options.httpInputBytesMax, logger, gate });
  addTritonMetrics(metrics.registry, repository);
  return {
    service: async () => (await import('../../protocol/triton/grpc.ts')).tritonService(context),
    close: () => context.close(),
  };
}

/** Triton's switches as one level. */
function levelOf(settings: LogSettings): string {
  if (settings.log_verbose_level > 0) return 'debug';
  if (settings.log_info) return 'info';
  if (settings.log_warning) return 'warn';
  return settings.log_error ? 'error' : 'silent';
}
