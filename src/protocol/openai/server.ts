import type { FastifyInstance } from 'fastify';
import { systemClock } from '../../base/clock.ts';
import { type ApiOptions, apiContext, guardApi } from '../api.ts';
import { clientGone } from '../client-gone.ts';
import { createHttpServer } from '../http-server.ts';
import { addOperations } from '../operations.ts';
import { RequestGate } from '../request-gate.ts';
import type { RequestLogger } from '../request-log.ts';
import type { RequestSpans } from '../request-spans.ts';
import type { ServedModel } from '../served-model.ts';
import type { TlsMaterial } from '../tls.ts';
import { addAdapterRoutes } from './adapters.ts';
import { handleChat } from './chat.ts';
import { handleCompletion } from './completions.ts';
import type { OpenAiContext } from './context.ts';
import { handleEmbeddings } from './embeddings.ts';
import { errorResponse } from './errors.ts';
import { handleRerank, handleScore } from './score.ts';
import { handleDetokenize, handleTokenize, tokenizerInfo } from './tokenize.ts';

/** What the OpenAI front end serves, and within which limits. */
export interface OpenAiServerOptions extends ApiOptions {
  /** One line a request. Absent: none. */
  logger?: RequestLogger;
  /** One span a request. Absent: none. */
  spans?: RequestSpans;
  tls?: TlsMaterial;
  corsOrigins?: readonly string[];
  /** Takes `chat_template` from requests: a program, bounded, that only makes prompts. Default false. */
  trustRequestChatTemplate?: boolean;
  /** Lets whoever may ask load LoRA adapters from the server's disk. Default false. */
  allowLoraUpdates?: boolean;
  /** For GET /version. */
  version: string;
  /** A further reason not to be ready (draining), for /health/ready. */
  notReadyReason?: () => string | undefined;
}

/**
 * The OpenAI-compatible front end as a fastify app; the caller listens and closes. Closing stops taking connections and waits for
 * running answers; close the engines' clients (with a drain time) to bound that.
 * @throws ProtocolError PARAMETER_INVALID for two models of one name
 */
export function createOpenAiServer(options: OpenAiServerOptions): FastifyInstance {
  const { metrics, clock = systemClock, limits = {}, logger, spans, tls, corsOrigins } = options;
  const app = createHttpServer({ limits, metrics, logger, spans, clock, tls, corsOrigins, errorResponse });
  addOpenAi(app, options);
  return app;
}

/**
 * Adds the front end to an app of {@link createHttpServer} that words errors as OpenAI does; other protocols may share it.
 * @throws ProtocolError PARAMETER_INVALID for two models of one name
 */
export function addOpenAi(app: FastifyInstance, options: OpenAiServerOptions): void {
  const context: OpenAiContext = {
    ...apiContext(options),
    trustRequestChatTemplate: options.trustRequestChatTemplate ?? false,
  };
  const { models, metrics } = context;
  addOperations(app, { models, metrics, version: options.version, notReadyReason: options.notReadyReason });
  const gate = options.gate ?? new RequestGate();
  app.get('/load', () => ({ server_load: gate.active }));
  void app.register(async (api) => {
    guardApi(api, { ...options, gate });
    addApi(api, context);
    if (options.allowLoraUpdates) addAdapterRoutes(api, context.models);
  });
}

function addApi(api: FastifyInstance, context: OpenAiContext): void {
  const { models } = context;
  api.post('/v1/chat/completions', (request, reply) => handleChat(context, request, reply));
  api.post('/v1/completions', (request, reply) => handleCompletion(context, request, reply));
  api.post('/v1/embeddings', (request, reply) => handleEmbeddings(context, request, reply));
  for (const path of ['/v1/score', '/score']) {
    api.post(path, (request, reply) => handleScore(context, request, reply));
  }
  for (const path of ['/v1/rerank', '/v2/rerank', '/rerank']) {
    api.post(path, (request, reply) => handleRerank(context, request, reply));
  }
  api.post('/tokenize', (request, reply) => handleTokenize(context, request.body, clientGone(reply.raw)));
  api.post('/detokenize', async (request) => handleDetokenize(models, request.body));
  api.get('/tokenizer_info', async (request) => {
    const { model } = request.query as { model?: string };
    return tokenizerInfo(models.resolve(model));
  });
  // As vLLM has it in its development mode; here it is for whoever may send requests.
  api.post('/reset_prefix_cache', async (_request, reply) => {
    for (const { client } of models.list) client.releaseRetained();
    return reply.code(200).send();
  });
  api.get('/v1/models', async () => ({
    object: 'list',
    data: [...models.list, ...models.adapters].flatMap((model) =>
      [model.name, ...model.aliases].map((name) => modelCard(name, model)),
    ),
  }));
  // A wildcard, since names may hold slashes ('org/model').
  api.get('/v1/models/*', async (request) => {
    const name = (request.params as { '*': string })['*'];
    return modelCard(name, models.resolve(name));
  });
}

/** OpenAI's model object, with vLLM's `root`, `parent` (of an adapter, the model that it changes) and `max_model_len`. */
function modelCard(name: string, model: ServedModel): object {
  return {
    id: name,
    object: 'model',
    created: model.createdSeconds,
    owned_by: 'nereid',
    root: model.root ?? model.name,
    parent: model.parent ?? null,
    max_model_len: model.client.description.contextLength,
  };
}
