import type { Socket } from 'node:net';
import Fastify, {
  type FastifyBodyParser,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
} from 'fastify';
import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf, NereidError } from '../base/errors.ts';
import { bodyBytesMax } from '../base/limits.ts';
import type { KeyUse } from './authentication.ts';
import { bodyTooLarge, decodeBody } from './body-encoding.ts';
import type { ByteBudget } from './byte-budget.ts';
import { type ClientBounds, type ClientLimits, clientBounds } from './client-bounds.ts';
import { Connections } from './connections.ts';
import { httpStatusOf, ProtocolError, type ProtocolErrorCode } from './errors.ts';
import { TracedGenerations } from './generation-spans.ts';
import { parseJsonBody } from './json-body.ts';
import * as limits from './limits.ts';
import type { ServerMetrics } from './metrics.ts';
import { requestIdHeader, requestIds } from './request-id.ts';
import { loggedError, logRequest, type RequestLogger } from './request-log.ts';
import type { RequestSpans } from './request-spans.ts';
import { addResponseHeaders, type ResponseHeaderOptions, securityHeaders } from './response-headers.ts';
import { type TlsMaterial, tlsVersionMin } from './tls.ts';
import type { Uploads } from './uploads.ts';
import { sendLargeAnswersInPieces } from './whole-answer.ts';

export type { RequestLogger } from './request-log.ts';

/** An error as a protocol words it. */
export interface HttpErrorResponse {
  status: number;
  headers: Record<string, string>;
  body: unknown;
}

/** Limits of an HTTP server; each has a default of the same name in `limits.ts` or `base/limits.ts`. */
export interface HttpLimits extends ClientLimits {
  bodyBytesMax?: number;
  headerBytesMax?: number;
  pipelinedRequestsMax?: number;
  headersTimeoutMs?: number;
  bodyTimeoutMs?: number;
  keepAliveTimeoutMs?: number;
  /** Arrival to last byte; 0 is none. Protocols apply it. */
  requestTimeoutMs?: number;
  streamBufferBytesMax?: number;
}

/** What a protocol gives {@link createHttpServer}. */
export interface HttpServerOptions {
  limits?: HttpLimits;
  metrics?: ServerMetrics;
  logger?: RequestLogger;
  clock?: Clock;
  /** Where requests are traced. Absent: nowhere. */
  spans?: RequestSpans;
  /** Absent: plain HTTP. */
  tls?: TlsMaterial;
  /** Web origins that may read answers; see `response-headers.ts`. */
  corsOrigins?: readonly string[];
  /** Bounds what clients may take; to be shared by all servers of a process. Default: some of its own, by `limits`. */
  bounds?: ClientBounds;
  /** How errors are worded where no protocol of the path has its own way (see {@link wordErrors}). */
  errorResponse(error: unknown): HttpErrorResponse;
  /** How errors are worded that reach no route (malformed paths), by the path's prefix, as `/v2`. Default: `errorResponse`. */
  errorResponseOfPath?: Readonly<Record<string, ErrorWording>>;
}

/** How a protocol words an error. */
export type ErrorWording = (error: unknown) => HttpErrorResponse;

/** What is known of a request while it is answered. */
export interface Exchange {
  /** On the server's clock. */
  arrivedNs: number;
  /** Fields that protocols add to the request's log line: model, token counts, finish reason. */
  log: Record<string, unknown>;
  /** What answers of all requests wait with; an answer that is gathered before it is sent counts itself here. */
  answers: ByteBudget;
  /** What the request's span tells of its generations; absent where nothing is traced. */
  traced?: TracedGenerations;
  /** The key that the request came with, where one is asked for. */
  key?: KeyUse;
}

declare module 'fastify' {
  interface FastifyRequest {
    exchange: Exchange;
  }
}

const checkingIntervalMsMax = 5_000;

/** A fastify instance with what every HTTP front end shares: limits, JSON bodies, error mapping, one log line a request, counts. */
export function createHttpServer(options: HttpServerOptions): FastifyInstance {
  const { clock = systemClock, limits: asked = {} } = options;
  const bounds = options.bounds ?? clientBounds(asked, clock);
  const pipelinedRequestsMax = asked.pipelinedRequestsMax ?? limits.pipelinedRequestsMax;
  const connections = new Connections({ pipelinedRequestsMax, bounds });
  const app = Fastify({
    logger: false,
    bodyLimit: asked.bodyBytesMax ?? bodyBytesMax,
    keepAliveTimeout: asked.keepAliveTimeoutMs ?? limits.keepAliveTimeoutMs,
    // While closing, what still arrives on open connections is refused by the engines' clients, in the protocol's own words.
    return503OnClosing: false,
    requestTimeout: asked.bodyTimeoutMs ?? limits.bodyTimeoutMs,
    genReqId: requestIds(),
    schemaController: { compilersFactory: { buildValidator: noSchemas, buildSerializer: noSchemas } },
    // Base URLs are written with and without one; `//` comes of joining the two.
    routerOptions: { maxParamLength: 1024, ignoreTrailingSlash: true, ignoreDuplicateSlashes: true },
    ...nodeServer(options),
    clientErrorHandler: (error, socket) => answerClientError(error, socket as Socket, connections, options),
    frameworkErrors: (error, request, reply) => {
      const known = frameworkError(error, bodyLimitOf(app));
      const { status, headers, body } = wordingOf(request.raw.url, options)(known);
      void (reply as unknown as FastifyReply).code(status).headers(headers).send(body);
    },
  });
  connections.watch(app.server, options.tls !== undefined);
  app.addHook('preClose', (done) => {
    connections.closeWhenIdle();
    done();
  });
  parseJsonBodies(app);
  followRequests(app, { connections, answers: bounds.answers, clock }, options);
  addResponseHeaders(app, headerOptions(options));
  watchUploads(app, bounds.uploads);
  sendLargeAnswersInPieces(app);
  wordErrors(app, options.errorResponse, options.logger);
  return app;
}

/** Bodies are checked by zod: what fastify would load to compile schemas of routes, a hundred modules, no start has to wait for. */
function noSchemas(): never {
  throw new TypeError('routes have no schemas here; check the body with parseRequest');
}

/** Times and names each request; when its response is over, counts and logs it. */
function followRequests(
  app: FastifyInstance,
  { connections, answers, clock }: { connections: Connections; answers: ByteBudget; clock: Clock },
  { metrics, logger, spans }: HttpServerOptions,
): void {
  app.decorateRequest('exchange');
  app.addHook('onRequest', (request, reply, done) => {
    request.exchange = { arrivedNs: clock.nowNs(), log: {}, answers };
    if (spans) request.exchange.traced = new TracedGenerations();
    // On the raw response: streams are written past fastify.
    reply.raw.setHeader(requestIdHeader, request.id);
    const isRoom = connections.begin(request.raw, reply.raw);
    reply.raw.once('close', () => {
      const status = reply.raw.writableFinished || reply.raw.headersSent ? reply.raw.statusCode : 499;
      const route = request.routeOptions.url ?? 'unknown';
      metrics?.countHttpRequest(route, request.method, status);
      if (!logger && !spans) return;
      const durationNs = clock.nowNs() - request.exchange.arrivedNs;
      // Protocols listen for the same event, and add what they know of the request.
      process.nextTick(() => {
        if (logger) logRequest(logger, request, route, status, durationNs);
        spans?.ended(request, route, status, durationNs, clock.wallMs());
      });
    });
    done(isRoom ? undefined : pipelineFull());
  });
}

/** The options of Node's own HTTP or HTTPS server. */
function nodeServer({ limits: asked = {}, tls }: HttpServerOptions): object {
  const bodyTimeoutMs = asked.bodyTimeoutMs ?? limits.bodyTimeoutMs;
  const headersTimeout = Math.min(asked.headersTimeoutMs ?? limits.headersTimeoutMs, bodyTimeoutMs);
  const server = {
    maxHeaderSize: asked.headerBytesMax ?? limits.headerBytesMax,
    headersTimeout,
    // Node looks for late ones only so often; its default would make a short timeout half a minute.
    connectionsCheckingInterval: Math.min(headersTimeout, bodyTimeoutMs, checkingIntervalMsMax),
  };
  if (!tls) return { http: server };
  return { https: { ...server, ...tls, minVersion: tlsVersionMin, handshakeTimeout: headersTimeout } };
}

function watchUploads(app: FastifyInstance, uploads: Uploads): void {
  app.addHook('preParsing', (request, _reply, payload, done) => {
    uploads.watch(request.raw);
    done(null, payload);
  });
}

function headerOptions({ tls, corsOrigins }: HttpServerOptions): ResponseHeaderOptions {
  return { secure: tls !== undefined, corsOrigins };
}

function pipelineFull(): ProtocolError {
  const problem = 'too many requests of this connection wait for their answers (pipelinedRequestsMax)';
  return new ProtocolError('PIPELINE_FULL', `${problem}; wait for some, or open another connection`);
}

/** Makes the routes of an app or plugin take JSON bodies and nothing else. */
export function parseJsonBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, plainBody(app, parseJsonBody));
}

/** Makes the routes of an app or plugin take any body as it came, whatever its content type and encoding say: those are the routes' own. */
export function takeRawBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  // Some clients name no type, or one that cannot be parsed: neither may matter.
  app.addHook('onRequest', (request, _reply, done) => {
    request.headers['content-type'] = 'application/octet-stream';
    done();
  });
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
}

/** A body parser over bytes of which the `Content-Encoding` is undone. */
function plainBody(app: FastifyInstance, parse: (bytes: Buffer) => unknown): FastifyBodyParser<Buffer> {
  return (request, body, done) => {
    const finish = (bytes: Buffer): void => {
      try {
        done(null, parse(bytes));
      } catch (error) {
        done(error as Error);
      }
    };
    const encoding = request.headers['content-encoding'];
    if (encoding === undefined) finish(body);
    else decodeBody(body, encoding, bodyLimitOf(app)).then(finish, done);
  };
}

/** Bytes of a body, as it arrives and decoded. */
function bodyLimitOf(app: FastifyInstance): number {
  return app.initialConfig.bodyLimit ?? bodyBytesMax;
}

function wordingOf(url: string | undefined, options: HttpServerOptions): ErrorWording {
  const prefix = Object.keys(options.errorResponseOfPath ?? {}).find((one) => url?.startsWith(one));
  return (prefix === undefined ? undefined : options.errorResponseOfPath?.[prefix]) ?? options.errorResponse;
}

/**
 * Makes the routes of an app or of a plugin with a prefix, and what is asked under that prefix in vain (404, 405), answer errors in a
 * protocol's own words. Several protocols share a port so.
 */
export function wordErrors(app: FastifyInstance, errorResponse: ErrorWording, logger?: RequestLogger): void {
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const known = frameworkError(error, bodyLimitOf(app));
    const response = errorResponse(known);
    request.exchange.log.error = loggedError(known, response.body);
    if (response.status >= 500 && !(known instanceof NereidError)) {
      logger?.error({ err: error, route: request.routeOptions.url }, 'a request failed unexpectedly');
    }
    void reply.code(response.status).headers(response.headers).send(response.body);
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0] ?? '';
    const others = (['GET', 'POST'] as const).filter((method) => app.hasRoute({ method, url: path }));
    const error = others.length
      ? new ProtocolError(
          'METHOD_NOT_ALLOWED',
          `${request.method} is not allowed on ${path}; use ${others.join(' or ')}`,
        )
      : routeNotFound(app, request.method, path);
    const response = errorResponse(error);
    request.exchange.log.error = loggedError(error, response.body);
    if (others.length) response.headers.allow = others.join(', ');
    void reply.code(response.status).headers(response.headers).send(response.body);
  });
}

/** A client whose base URL lacks the `/v1` is told so. */
function routeNotFound(app: FastifyInstance, method: string, path: string): ProtocolError {
  const url = `/v1${path}`;
  const isMissingVersion = (['GET', 'POST'] as const).some((known) => app.hasRoute({ method: known, url }));
  const advice = isMissingVersion ? `; it is at ${url}: end the client's base URL with /v1` : '';
  return new ProtocolError('ROUTE_NOT_FOUND', `there is no ${method} ${path.slice(0, 200)} here${advice}`);
}

const codeOfStatus: Readonly<Record<number, ProtocolErrorCode>> = {
  404: 'ROUTE_NOT_FOUND',
  413: 'BODY_TOO_LARGE',
  415: 'CONTENT_TYPE_UNSUPPORTED',
};

/** fastify's own refusals in our terms; everything else as it is. */
function frameworkError(error: FastifyError, bodyLimit: number): Error {
  if (error instanceof NereidError || !error.code?.startsWith('FST_')) return error;
  const status = error.statusCode ?? 500;
  if (status >= 500) return error;
  const code = codeOfStatus[status] ?? 'REQUEST_MALFORMED';
  if (code === 'BODY_TOO_LARGE') return bodyTooLarge(bodyLimit);
  if (code === 'CONTENT_TYPE_UNSUPPORTED') {
    return new ProtocolError(code, "the body must be JSON: send the header 'Content-Type: application/json'");
  }
  return new ProtocolError(code, messageOf(error), { cause: error });
}

/** Requests that Node's parser refuses reach no route: answer by hand and hang up. */
function answerClientError(
  error: NodeJS.ErrnoException,
  socket: Socket,
  connections: Connections,
  options: HttpServerOptions,
): void {
  // Nothing can be said in the middle of another request's response.
  if (error.code === 'ECONNRESET' || connections.isResponding(socket) || !socket.writable) {
    socket.destroy();
    return;
  }
  const problem = parserError(error);
  const { headers, body } = options.errorResponse(problem);
  const text = JSON.stringify(body);
  const status = httpStatusOf(problem);
  const all = { ...securityHeaders(headerOptions(options)), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  // A client that ignores this would hold the socket for ever.
  setTimeout(() => socket.destroy(), limits.lingerMs).unref();
  socket.end(
    `HTTP/1.1 ${status} Error\r\ncontent-type: application/json; charset=utf-8\r\nconnection: close\r\n` +
      `${lines.join('')}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
}

function parserError(error: NodeJS.ErrnoException): ProtocolError {
  if (error.code === 'HPE_HEADER_OVERFLOW') {
    return new ProtocolError(
      'HEADERS_TOO_LARGE',
      'the request headers are too large; send fewer or shorter ones',
    );
  }
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new ProtocolError('REQUEST_TOO_SLOW', 'the request took too long to arrive');
  }
  return new ProtocolError(
    'REQUEST_MALFORMED',
    `this is not an HTTP request that we can read (${error.code ?? 'unknown'})`,
  );
}
