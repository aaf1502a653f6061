import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { packageVersion } from '../../base/package-version.ts';
import { generationDefaults } from '../../protocol/generation-defaults.ts';
import { ServerMetrics } from '../../protocol/metrics.ts';
import { createOpenAiServer } from '../../protocol/openai/server.ts';
import { type GenerationDefaults, type ServedModel, servedModel } from '../../protocol/served-model.ts';
import type { EngineClient } from '../../runtime/client.ts';
import { EnginePool } from '../../runtime/routing/pool.ts';
import { EncodePool, type PooledTokenizer } from '../../tokenizer/encode-pool.ts';
import { openTokenizer } from '../../tokenizer/open.ts';

/** A model as a front end is handed it: its engines, and where its tokenizer lies. */
export interface FrontEndModel {
  name: string;
  aliases: string[];
  text: ModelText;
  clients: EngineClient[];
}

/** The text side of a model. */
export interface ModelText {
  tokenizer: PooledTokenizer;
  defaults: GenerationDefaults;
}

/** Opens a model's tokenizer and reads its advice; this needs no engine, so it goes on while one loads. */
export async function openModelText(tokenizerFolder: string): Promise<ModelText> {
  return {
    tokenizer: await openTokenizer(tokenizerFolder),
    defaults: await generationDefaults(tokenizerFolder),
  };
}

/** What a front end is made of. */
export interface FrontEndOptions {
  models: readonly FrontEndModel[];
  logger: Logger;
  apiKeys: readonly string[];
  requestTimeoutSeconds: number;
  /** Why the server should get no new requests (it is draining), if so. */
  notReadyReason: () => string | undefined;
}

/** One front end: the HTTP app over its models, not yet listening. Several may share a port (`cluster`). */
export interface FrontEnd {
  http: FastifyInstance;
  models: readonly ServedModel[];
  metrics: ServerMetrics;
  close(): Promise<void>;
}

/** Puts the protocols over the engines, which must have answered once. */
export function createFrontEnd(options: FrontEndOptions): FrontEnd {
  const encoders: EncodePool[] = [];
  const createdSeconds = Math.floor(Date.now() / 1000);
  const models = options.models.map(({ name, aliases, text, clients }) => {
    const { tokenizer, defaults } = text;
    const encoder = new EncodePool(tokenizer);
    encoders.push(encoder);
    const client = new EnginePool(clients);
    const encode: ServedModel['encode'] = (input, encodeOptions) => encoder.encode(input, encodeOptions);
    return servedModel({ name, aliases, client, tokenizer, defaults, createdSeconds, encode });
  });
  const metrics = new ServerMetrics({ models });
  const { logger, apiKeys, notReadyReason } = options;
  const limits = { requestTimeoutMs: options.requestTimeoutSeconds * 1000 };
  const http = createOpenAiServer({
    models,
    metrics,
    logger,
    apiKeys,
    limits,
    version: packageVersion(),
    notReadyReason,
  });
  return {
    http,
    models,
    metrics,
    close: async () => {
      await http.close();
      await Promise.all(encoders.map((encoder) => encoder.close()));
    },
  };
}
