import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { packageVersion } from '../../base/package-version.ts';
import { generationDefaults } from '../../protocol/generation-defaults.ts';
import { ServerMetrics } from '../../protocol/metrics.ts';
import { createOpenAiServer } from '../../protocol/openai/server.ts';
import { type ServedModel, servedModel } from '../../protocol/served-model.ts';
import type { EngineClient } from '../../runtime/client.ts';
import { EnginePool } from '../../runtime/pool.ts';
import { EncodePool } from '../../tokenizer/encode-pool.ts';
import { openTokenizer } from '../../tokenizer/open.ts';

/** A model as a front end is handed it: its engines, and where its tokenizer lies. */
export interface FrontEndModel {
  name: string;
  aliases: string[];
  tokenizerFolder: string;
  clients: EngineClient[];
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

/** Opens the tokenizers and puts the protocols over the engines. */
export async function createFrontEnd(options: FrontEndOptions): Promise<FrontEnd> {
  const encoders: EncodePool[] = [];
  const createdSeconds = Math.floor(Date.now() / 1000);
  const models = await Promise.all(
    options.models.map(async ({ name, aliases, tokenizerFolder, clients }) => {
      const tokenizer = await openTokenizer(tokenizerFolder);
      const encoder = new EncodePool(tokenizer);
      encoders.push(encoder);
      const client = new EnginePool(clients);
      const defaults = await generationDefaults(tokenizerFolder);
      const encode: ServedModel['encode'] = (text, encodeOptions) => encoder.encode(text, encodeOptions);
      return servedModel({ name, aliases, client, tokenizer, defaults, createdSeconds, encode });
    }),
  );
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
