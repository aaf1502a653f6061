import type { FastifyInstance } from 'fastify';
import type { ServerMetrics } from './metrics.ts';
import type { ServedModels } from './served-models.ts';

/** What {@link addOperations} reports on. */
export interface OperationsOptions {
  models: ServedModels;
  metrics?: ServerMetrics;
  version: string;
  /** A further reason not to take requests (draining, …), or undefined. */
  notReadyReason?: () => string | undefined;
}

/** Health, metrics and version: the routes that operators' tools ask, on any HTTP port. They need no API key. */
export function addOperations(app: FastifyInstance, options: OperationsOptions): void {
  const { models, metrics, version } = options;
  const reason = () => options.notReadyReason?.() ?? models.notReadyReason;
  app.get('/health/live', () => ({ status: 'live' }));
  for (const path of ['/health/ready', '/health']) {
    app.get(path, (_request, reply) => {
      const notReady = reason();
      if (notReady === undefined) return reply.send({ status: 'ready' });
      return reply.code(503).header('retry-after', '1').send({ status: 'not ready', reason: notReady });
    });
  }
  // What AWS SageMaker asks, and vLLM answers.
  app.route({
    method: ['GET', 'POST'],
    url: '/ping',
    handler: (_request, reply) => reply.code(reason() === undefined ? 200 : 503).send(),
  });
  app.get('/version', () => ({ version }));
  if (metrics) {
    app.get('/metrics', async (_request, reply) => {
      const { text, contentType } = await metrics.exposition();
      return reply.type(contentType).send(text);
    });
  }
}
