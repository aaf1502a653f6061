import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { messageOf } from '../../base/errors.ts';
import { RepositoryError, toRepositoryError } from '../../repository/errors.ts';
import { type RequestLogger, takeRawBodies, wordErrors } from '../http-server.ts';
import type { RequestGate } from '../request-gate.ts';
import { tritonRoutes } from './administration.ts';
import type { RestrictedApi, TritonContext } from './context.ts';
import { errorBody, errorResponse, httpStatus } from './errors.ts';
import { handleGenerate, handleGenerateStream, handleInfer } from './inference.ts';
import { type HttpAnswer, jsonType, textType } from './responses.ts';
import type { RouteGroups, TritonRoute } from './routes.ts';
import { Turns } from './turns.ts';

/** What the HTTP side adds to {@link TritonContext}. */
export interface TritonHttpOptions {
  /** Bytes of a request's body, packed and unpacked. */
  bodyBytesMax: number;
  logger?: RequestLogger;
  /** Counts the requests and turns them away while the server drains. */
  gate?: RequestGate;
}

const modelPath = /^\/v2\/models\/([^/]+)(?:\/versions\/([0-9]+))?\/(infer|generate|generate_stream)$/;

const inferenceHandlers = {
  infer: handleInfer,
  generate: handleGenerate,
  generate_stream: handleGenerateStream,
};

/** What a server's handlers share. */
interface Serving extends TritonHttpOptions {
  turns: Turns;
}

/** Adds KServe's v2 protocol under `/v2` to an app of `createHttpServer`; other protocols may share it. */
export function addTriton(app: FastifyInstance, context: TritonContext, options: TritonHttpOptions): void {
  const settings = { bodyLimit: options.bodyBytesMax };
  const serving: Serving = { ...options, turns: new Turns() };
  const plugin = async (scope: FastifyInstance): Promise<void> => {
    wordErrors(scope, errorResponse, options.logger);
    takeRawBodies(scope);
    options.gate?.guard(scope);
    const handler = (request: FastifyRequest, reply: FastifyReply): Promise<unknown> =>
      answer(context, serving, request, reply);
    // Probes have no key.
    scope.all('/health/*', settings, handler);
    await scope.register(async (guarded) => {
      context.keys?.guard(guarded);
      guarded.all('', settings, handler);
      guarded.all('/*', settings, handler);
    });
  };
  void app.register(plugin, { prefix: '/v2' });
}

async function answer(
  context: TritonContext,
  serving: Serving,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  // Undecoded, as tritonserver matches it.
  const path = request.url.split('?', 1)[0] as string;
  const inference = modelPath.exec(path);
  if (inference) return answerInference(context, serving, request, reply, inference);
  for (const route of tritonRoutes) {
    const groups = route.pattern.exec(path);
    if (groups) return send(reply, administer(context, route, request, groups));
  }
  return send(reply, failure(404, 'Not Found'));
}

async function answerInference(
  context: TritonContext,
  { bodyBytesMax, turns }: Serving,
  request: FastifyRequest,
  reply: FastifyReply,
  [, modelName = '', version = '', kind = '']: RouteGroups,
): Promise<unknown> {
  request.exchange.log.model = modelName;
  if (request.method !== 'POST') {
    return send(reply, failure(405, 'Method Not Allowed', kind === 'infer' ? textType : jsonType));
  }
  const restricted = refuseRestricted(context, 'inference', request);
  if (restricted) return send(reply, restricted);
  const turn = turns.take();
  if (turn) await turn;
  const handle = inferenceHandlers[kind as keyof typeof inferenceHandlers];
  const given = await handle({ context, request, reply, modelName, version, bodyBytesMax });
  // A stream answers by itself.
  return given ? send(reply, given) : reply;
}

function administer(
  context: TritonContext,
  route: TritonRoute,
  request: FastifyRequest,
  groups: RouteGroups,
): HttpAnswer | Promise<HttpAnswer> {
  const method = request.method as 'GET' | 'POST';
  if (!route.methods.includes(method)) {
    return failure(405, 'Method Not Allowed', route.api === 'health' ? textType : jsonType);
  }
  const restricted = refuseRestricted(context, route.api, request);
  if (restricted) return restricted;
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  try {
    const given = route.answer(context, groups, { method, body });
    return given instanceof Promise ? given.catch(errorAnswer) : given;
  } catch (thrown) {
    return errorAnswer(thrown);
  }
}

function errorAnswer(thrown: unknown): HttpAnswer {
  const error = thrown instanceof RepositoryError ? thrown : toRepositoryError(thrown);
  return { status: httpStatus(error), contentType: jsonType, body: errorBody(messageOf(error)) };
}

function failure(status: number, message: string, contentType = textType): HttpAnswer {
  return { status, contentType, body: errorBody(message) };
}

function refuseRestricted(
  context: TritonContext,
  api: RestrictedApi,
  request: FastifyRequest,
): HttpAnswer | undefined {
  const restriction = context.restrictionOf('http', api);
  if (!restriction || request.headers[restriction.header.toLowerCase()] === restriction.value)
    return undefined;
  return failure(403, `This API is restricted, expecting header '${restriction.header}'`);
}

const asItIs = (body: unknown): string => body as string;

async function send(reply: FastifyReply, pending: HttpAnswer | Promise<HttpAnswer>): Promise<FastifyReply> {
  const { status, contentType, body, headerLength, encoding } = await pending;
  if (headerLength !== undefined) void reply.header('inference-header-content-length', String(headerLength));
  if (encoding !== undefined) void reply.header('content-encoding', encoding);
  // A serializer of our own keeps fastify from adding a charset, which clients that compare the type do not expect. A text leaves in one
  // write with its headers.
  return reply.code(status).serializer(asItIs).header('content-type', contentType).send(body);
}
