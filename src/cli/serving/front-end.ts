import { Server as TlsServer } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { descriptorsMax } from '../../base/descriptors.ts';
import { messageOf } from '../../base/errors.ts';
import { packageVersion } from '../../base/package-version.ts';
import type { AnswerFormats } from '../../protocol/answer-parser.ts';
import { errorResponse as messagesErrorResponse } from '../../protocol/anthropic/errors.ts';
import { addMessages, messagesPath } from '../../protocol/anthropic/server.ts';
import { ApiKeys } from '../../protocol/authentication.ts';
import type { RunningBriton } from '../../protocol/briton/server.ts';
import { type ClientBounds, clientBounds } from '../../protocol/client-bounds.ts';
import { generationDefaults } from '../../protocol/generation-defaults.ts';
import type { GrpcServerOptions, RunningGrpcServer } from '../../protocol/grpc-server.ts';
import { createHttpServer, type HttpLimits } from '../../protocol/http-server.ts';
import { keyMetrics } from '../../protocol/key-metrics.ts';
import { socketsMax, socketsPerAddressMax } from '../../protocol/limits.ts';
import { type Exposition, ServerMetrics } from '../../protocol/metrics.ts';
import { errorResponse } from '../../protocol/openai/errors.ts';
import { addOpenAi } from '../../protocol/openai/server.ts';
import { reasoningFormatOf, reasoningFormats } from '../../protocol/reasoning/registry.ts';
import { RequestGate } from '../../protocol/request-gate.ts';
import type { RequestSpans } from '../../protocol/request-spans.ts';
import { addResponses } from '../../protocol/responses/server.ts';
import type { ResponseStorage } from '../../protocol/responses/store.ts';
import { type GenerationDefaults, type ServedModel, servedModel } from '../../protocol/served-model.ts';
import type { TlsMaterial } from '../../protocol/tls.ts';
import { toolFormatOf, toolFormats } from '../../protocol/tool-parsers/registry.ts';
import { errorResponse as kserveErrors } from '../../protocol/triton/errors.ts';
import type { ModelRepository } from '../../repository/model.ts';
import type { EngineClient } from '../../runtime/client.ts';
import type { Pooling } from '../../runtime/requests/request.ts';
import { EnginePool } from '../../runtime/routing/pool.ts';
import { EncodePool, type PooledTokenizer } from '../../tokenizer/encode-pool.ts';
import { openTokenizer } from '../../tokenizer/open.ts';
import { TemplatePool } from '../../tokenizer/template-pool.ts';
import type { BritonAddress } from './briton.ts';
import { addKserve, type Kserve } from './kserve.ts';
import type { AnswerOptions, KserveOptions, TrafficOptions } from './options.ts';
import { readSecurity, type Security, type SecurityOptions } from './security.ts';
import { exportMetrics, requestSpans } from './spans.ts';

/** A model as a front end is handed it: its engines, and where its tokenizer lies. */
export interface FrontEndModel {
  name: string;
  aliases: string[];
  /** As in `ServedModelOptions`. */
  contentHash?: string;
  tokenizerFolder: string;
  text: ModelText;
  clients: EngineClient[];
}

/** The text side of a model. */
export interface ModelText {
  tokenizer: PooledTokenizer;
  defaults: GenerationDefaults;
  formats: AnswerFormats;
  pooling?: Pooling;
}

/** Opens a model's tokenizer and reads its advice; this needs no engine, so it goes on while one loads. */
export async function openModelText(tokenizerFolder: string, options: AnswerOptions): Promise<ModelText> {
  const tokenizer = await openTokenizer(tokenizerFolder);
  return {
    tokenizer,
    defaults: await generationDefaults(tokenizerFolder),
    formats: await answerFormats(tokenizer.chatTemplate, options),
    pooling: options.pooling,
  };
}

/** What the options say, else what the template shows. @throws UnknownNameError */
async function answerFormats(template: string | undefined, options: AnswerOptions): Promise<AnswerFormats> {
  const tools = options.toolCallParser ?? toolFormatOf(template) ?? 'none';
  const reasoning = options.reasoningParser ?? reasoningFormatOf(template) ?? 'none';
  return {
    tools: tools === 'none' ? undefined : (await toolFormats.load(tools)).format,
    reasoning: reasoning === 'none' ? undefined : (await reasoningFormats.load(reasoning)).format,
  };
}

/** What a front end is made of. */
export interface FrontEndOptions {
  models: readonly FrontEndModel[];
  logger: Logger;
  security: Security;
  requestTimeoutSeconds: number;
  answers: AnswerOptions;
  /** Default: `routingDefault`, and an event a step. */
  traffic?: Partial<TrafficOptions>;
  /** Why the server should get no new requests (it is draining), if so. */
  notReadyReason: () => string | undefined;
  kserve: KserveOptions;
  /** What KServe's protocol serves. */
  repository: ModelRepository;
  /** Where the Responses API keeps responses. Default: in this process. */
  responses?: ResponseStorage;
  /** What `/metrics` shows where other processes serve the same port. Default, and where it has none: this process's. */
  metricsOfAll?: () => Promise<Exposition | undefined>;
}

/** One front end: the HTTP app over its models, not yet listening. Several may share a port (`cluster`). */
export interface FrontEnd {
  http: FastifyInstance;
  models: readonly ServedModel[];
  metrics: ServerMetrics;
  /** Undefined: no key is asked for. */
  keys?: ApiKeys;
  /** What clients of all ports may take together. */
  bounds: ClientBounds;
  /** For gRPC's health service: by model, and '' for all. */
  readiness(): Readonly<Record<string, boolean>>;
  /** Opens the gRPC port; resolves with its number. */
  listenGrpc(address: { host: string; port: number }): Promise<number>;
  /** Opens Briton's gRPC port over the first model; resolves with its number. */
  listenBriton(address: BritonAddress): Promise<number>;
  /** Takes other keys and certificates from now on. */
  reload(security: Security): void;
  /** Refuses new requests and waits for the running ones, so long at most; the port stays open. */
  drain(timeoutMs: number): Promise<void>;
  close(): Promise<void>;
}

/** The app that all protocols share; each words the errors of its own paths. */
function httpServer(
  options: FrontEndOptions,
  limits: HttpLimits,
  { metrics, spans, bounds }: { metrics: ServerMetrics; spans?: RequestSpans; bounds: ClientBounds },
): FastifyInstance {
  return createHttpServer({
    limits,
    bounds,
    metrics,
    logger: options.logger,
    spans,
    tls: options.security.tls,
    corsOrigins: options.security.corsOrigins,
    errorResponse,
    errorResponseOfPath: { [messagesPath]: messagesErrorResponse, '/v2': kserveErrors },
  });
}

/** Puts the protocols over the engines, which must have answered once. */
export function createFrontEnd(options: FrontEndOptions): FrontEnd {
  const { models, pools } = openModels(options.models, options.traffic);
  const metrics = new ServerMetrics({ models, ofAll: options.metricsOfAll });
  const { logger, security, notReadyReason } = options;
  const keys =
    security.keys.length > 0 ? new ApiKeys(security.keys, keyMetrics(metrics.registry)) : undefined;
  const limits = { requestTimeoutMs: options.requestTimeoutSeconds * 1000 };
  const bounds = clientBounds(socketLimits());
  const gate = new RequestGate();
  const api = { models, metrics, limits, keys, gate };
  const spans = requestSpans(process.env, logger);
  const endExport = exportMetrics(process.env, metrics, logger);
  const http = httpServer(options, limits, { metrics, spans, bounds });
  addOpenAi(http, {
    ...api,
    version: packageVersion(),
    notReadyReason,
    trustRequestChatTemplate: options.answers.trustRequestChatTemplate,
    allowLoraUpdates: options.answers.allowLoraUpdates,
  });
  addResponses(http, { ...api, responses: options.responses }, errorResponse);
  addMessages(http, api);
  const { repository } = options;
  const kserve = addKserve({ http, repository, metrics, gate, logger, keys, notReadyReason }, options.kserve);
  let grpc: RunningGrpcServer | undefined;
  let briton: RunningBriton | undefined;
  const readiness = () => readinessOf(models, repository, notReadyReason() === undefined);
  return {
    http,
    ...{ models, metrics, keys, readiness, bounds },
    listenGrpc: async (address) => {
      grpc = await listenGrpc(kserve, { ...address, readiness, bounds }, security.tls);
      return grpc.port;
    },
    listenBriton: async (address) => {
      const { openBriton } = await import('./briton.ts');
      briton = await openBriton({ models, keys, metrics, readiness, bounds }, address, security.tls);
      return briton.port;
    },
    reload: (changed) => {
      keys?.replace(changed.keys);
      if (!changed.tls) return;
      if (http.server instanceof TlsServer) http.server.setSecureContext(changed.tls);
      grpc?.setTls(changed.tls);
      briton?.setTls(changed.tls);
    },
    drain: async (timeoutMs) => {
      await Promise.all([gate.close(timeoutMs), grpc?.close(timeoutMs), briton?.drain(timeoutMs)]);
    },
    close: async () => {
      await Promise.all([http.close(), grpc?.close(), briton?.close()]);
      await Promise.all([spans?.close(), endExport?.()]);
      kserve.close();
      await Promise.all(pools.map((pool) => pool.close()));
    },
  };
}

/** Descriptors that are not for clients: engines, files, pipes, and room for what comes. */
const ownDescriptors = 256;

/** Fewer sockets where the system allows fewer descriptors: what goes wrong without any is worse than a full house. */
function socketLimits(): { socketsMax?: number; socketsPerAddressMax?: number } {
  const descriptors = descriptorsMax();
  if (descriptors === undefined) return {};
  const sockets = Math.max(ownDescriptors, descriptors - ownDescriptors);
  return {
    socketsMax: Math.min(socketsMax, sockets),
    socketsPerAddressMax: Math.min(socketsPerAddressMax, Math.ceil(sockets / 2)),
  };
}

async function listenGrpc(
  kserve: Kserve,
  options: GrpcServerOptions,
  tls: TlsMaterial | undefined,
): Promise<RunningGrpcServer> {
  const { startGrpcServer } = await import('../../protocol/grpc-server.ts');
  return startGrpcServer({ ...options, tls, services: [await kserve.service()] });
}

/** The models with their engines' pools, and the threads that work on texts. */
function openModels(
  given: readonly FrontEndModel[],
  traffic: Partial<TrafficOptions> = {},
): {
  models: ServedModel[];
  pools: (EncodePool | TemplatePool)[];
} {
  const pools: (EncodePool | TemplatePool)[] = [];
  const createdSeconds = Math.floor(Date.now() / 1000);
  const models = given.map(({ name, aliases, contentHash, text, clients }) => {
    const { tokenizer, defaults, formats, pooling } = text;
    const encoder = new EncodePool(tokenizer);
    const templates = new TemplatePool();
    pools.push(encoder, templates);
    if (tokenizer.chatTemplate !== undefined) setImmediate(() => templates.warm());
    const client = new EnginePool(clients, traffic.routing);
    return servedModel({
      name,
      aliases,
      contentHash,
      client,
      tokenizer,
      defaults,
      formats,
      pooling,
      createdSeconds,
      streamInterval: traffic.streamInterval,
      encode: (input, encodeOptions, signal) => encoder.encode(input, encodeOptions, signal),
      renderChat: (template, input, signal) => templates.render(template, input, signal),
    });
  });
  return { models, pools };
}

/** What gRPC's health service says, by model name; '' is the whole server. */
function readinessOf(
  models: readonly ServedModel[],
  repository: ModelRepository,
  takesRequests: boolean,
): Record<string, boolean> {
  const statuses: Record<string, boolean> = {};
  for (const { name, state } of repository.index(false)) statuses[name] = takesRequests && state === 'READY';
  for (const { name, client } of models) statuses[name] = takesRequests && client.ready;
  const isAllReady = models.every(({ client }) => client.ready) && repository.isReady;
  return { ...statuses, '': takesRequests && isAllReady };
}

/** Reads keys and certificates again; where they are wrong now, what was stays. */
export async function reload(
  frontEnd: Pick<FrontEnd, 'reload'>,
  options: SecurityOptions,
  logger: Logger,
): Promise<void> {
  try {
    frontEnd.reload(await readSecurity(options));
    logger.info('API keys and certificates were read again');
  } catch (thrown) {
    logger.error({ reason: messageOf(thrown) }, 'API keys and certificates stay as they were');
  }
}
