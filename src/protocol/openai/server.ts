import type { FastifyInstance } from 'fastify';
import { type Clock, systemClock } from '../../base/clock.ts';
import { streamBufferBytesMax } from '../../base/limits.ts';
import { ApiKeys } from '../authentication.ts';
import { clientGone } from '../client-gone.ts';
import { createHttpServer, type HttpLimits } from '../http-server.ts';
import { requestTimeoutMs } from '../limits.ts';
import type { ServerMetrics } from '../metrics.ts';
import { addOperations } from '../operations.ts';
import { RequestGate } from '../request-gate.ts';
import { idSource } from '../request-id.ts';
import type { RequestLogger } from '../request-log.ts';
import { type ServedModel, ServedModels } from '../served-model.ts';
import { handleChat } from './chat.ts';
import { handleCompletion } from './completions.ts';
import type { OpenAiContext } from './context.ts';
import { errorResponse } from './errors.ts';
import { handleDetokenize, handleTokenize } from './tokenize.ts';

/** What the OpenAI front end serves, and within which limits. */
export interface OpenAiServerOptions {
  /** The first is the default of requests that name none. */
  models: readonly ServedModel[];
  /** Absent: no /metrics route and nothing measured. */
  metrics?: ServerMetrics;
  /** One line a request. Absent: none. */
  logger?: RequestLogger;
  limits?: HttpLimits;
  /** Absent or empty: no key is asked for. Health, metrics and version never ask. */
  apiKeys?: readonly string[];
  /** Takes `chat_template` from requests: a program, bounded, that only makes prompts. Default false. */
  trustRequestChatTemplate?: boolean;
  /** For GET /version. */
  version: string;
  /** A further reason not to be ready (draining), for /health/ready. */
  notReadyReason?: () => string | undefined;
  /** Counts the API's requests and turns them away while the server drains. Default: one of its own. */
  gate?: RequestGate;
  clock?: Clock;
}

/**
 * The OpenAI-compatible front end as a fastify app; the caller listens and closes. Closing stops taking connections and waits for
 * running answers; close the engines' clients (with a drain time) to bound that.
 * @throws ProtocolError PARAMETER_INVALID for two models of one name
 */
export function createOpenAiServer(options: OpenAiServerOptions): FastifyInstance {
  const { metrics, clock = systemClock, limits = {} } = options;
  const app = createHttpServer({ limits, metrics, logger: options.logger, clock, errorResponse });
  addOpenAi(app, options);
  return app;
}

/**
 * Adds the front end to an app of {@link createHttpServer} that words errors as OpenAI does; other protocols may share it.
 * @throws ProtocolError PARAMETER_INVALID for two models of one name
 */
export function addOpenAi(app: FastifyInstance, options: OpenAiServerOptions): void {
  const models = new ServedModels(options.models);
  const { metrics, clock = systemClock, limits = {} } = options;
  const context: OpenAiContext = {
    models,
    metrics,
    clock,
    nextId: idSource(),
    trustRequestChatTemplate: options.trustRequestChatTemplate ?? false,
    requestTimeoutMs: limits.requestTimeoutMs ?? requestTimeoutMs,
    streamBufferBytesMax: limits.streamBufferBytesMax ?? streamBufferBytesMax,
  };
  addOperations(app, { models, metrics, version: options.version, notReadyReason: options.notReadyReason });
  const gate = options.gate ?? new RequestGate();
  app.get('/load', () => ({ server_load: gate.active }));
  void app.register(async (api) => {
    gate.guard(api);
    if (options.apiKeys && options.apiKeys.length > 0) {
      const keys = new ApiKeys(options.apiKeys);
      // Before the body is read: strangers cost nothing.
      api.addHook('onRequest', async (request) => keys.check(request.headers.authorization));
    }
    addApi(api, context);
  });
}

function addApi(api: FastifyInstance, context: OpenAiContext): void {
  const { models } = context;
  api.post('/v1/chat/completions', (request, reply) => handleChat(context, request, reply));
  api.post('/v1/completions', (request, reply) => handleCompletion(context, request, reply));
  api.post('/tokenize', (request, reply) => handleTokenize(context, request.body, clientGone(reply.raw)));
  api.post('/detokenize', async (request) => handleDetokenize(models, request.body));
  api.get('/v1/models', async () => ({
    object: 'list',
    data: models.list.flatMap((model) =>
      [model.name, ...model.aliases].map((name) => modelCard(name, model)),
    ),
  }));
  // A wildcard, since names may hold slashes ('org/model').
  api.get('/v1/models/*', async (request) => {
    const name = (request.params as { '*': string })['*'];
    return modelCard(name, models.resolve(name));
  });
}

/** OpenAI's model object, with vLLM's `root` and `max_model_len`. */
function modelCard(name: string, model: ServedModel): object {
  return {
    id: name,
    object: 'model',
    created: model.createdSeconds,
    owned_by: 'nereid',
    root: model.name,
    parent: null,
    max_model_len: model.client.description.contextLength,
  };
}
