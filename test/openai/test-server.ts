import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { nullModelSource } from '../../src/device/null/index.ts';
import { addMessages } from '../../src/protocol/anthropic/server.ts';
import { ServerMetrics } from '../../src/protocol/metrics.ts';
import { errorResponse } from '../../src/protocol/openai/errors.ts';
import { createOpenAiServer, type OpenAiServerOptions } from '../../src/protocol/openai/server.ts';
import { addResponses } from '../../src/protocol/responses/server.ts';
import { type ServedModel, type ServedModelOptions, servedModel } from '../../src/protocol/served-model.ts';
import { openAdapters } from '../../src/runtime/adapters/open.ts';
import { vocabularyOf } from '../../src/runtime/guidance/vocabulary.ts';
import { LocalEngine } from '../../src/runtime/local-engine.ts';
import { loadModel } from '../../src/runtime/process/load-model.ts';
import type { Tokenizer } from '../../src/tokenizer/types.ts';
import { nullAdapterSettings, nullLinears } from '../support/null-adapters.ts';
import { bytesOf, byteTokenizer, endOfTextId } from './byte-tokenizer.ts';

export interface TestEngineOptions {
  /** What the engine says, over and over; absent: hashed tokens. */
  says?: string;
  /** Ends the script with the end-of-text token. */
  thenStops?: boolean;
  stepMs?: number;
  contextLength?: number;
  slots?: number;
  queuedRequestsMax?: number;
  tokenizer?: Tokenizer;
  /** Serves LoRA adapters (`support/null-adapters.ts`). */
  withAdapters?: boolean;
  model?: Partial<ServedModelOptions>;
}

export interface TestEngine {
  engine: LocalEngine;
  model: ServedModel;
}

/**
 * A null-device engine in this process whose tokens are bytes. A script is placed by position: the first token after a prompt of p
 * tokens is the script's byte at p modulo its length, which {@link promptOf} makes 0.
 */
export async function testEngine(options: TestEngineOptions = {}): Promise<TestEngine> {
  const { says, thenStops = false, stepMs = 0, contextLength = 2048, slots = 64 } = options;
  const deviceOptions: Record<string, string> = { 'step-ms': String(stepMs) };
  if (says !== undefined) {
    deviceOptions.mode = 'script';
    deviceOptions.script = [...bytesOf(says), ...(thenStops ? [endOfTextId] : [])].join(',');
  }
  const tokenizer = options.tokenizer ?? byteTokenizer();
  const size = { vocabularySize: tokenizer.vocabularySize, contextLength };
  const { model: deviceModel, options: core } = await loadModel('null', nullModelSource(size), {
    ...{ device: 'null', deviceOptions, slots, batchTokensMax: 4096, kvDtype: 'f16', threads: 1 },
    prefixReuse: true,
    ...(options.withAdapters && { adapters: nullAdapterSettings }),
  });
  const adapterOptions = { device: 'null', adapters: nullAdapterSettings };
  const engine = new LocalEngine(deviceModel, {
    ...core,
    adapters: await openAdapters(deviceModel.adapters, adapterOptions, () => nullLinears),
    vocabulary: vocabularyOf(tokenizer),
    queuedRequestsMax: options.queuedRequestsMax,
  });
  const model = servedModel({
    name: 'test',
    client: engine,
    tokenizer,
    createdSeconds: 1_700_000_000,
    ...options.model,
  });
  return { engine, model };
}

export interface TestServer extends TestEngine {
  app: FastifyInstance;
  metrics: ServerMetrics;
  /** `http://127.0.0.1:PORT` once {@link listen} was called. */
  listen(): Promise<{ url: string; port: number }>;
  close(): Promise<void>;
}

/** All text protocols over {@link testEngine}. */
export async function testServer(
  engineOptions: TestEngineOptions = {},
  serverOptions: Partial<OpenAiServerOptions> = {},
): Promise<TestServer> {
  const { engine, model } = await testEngine(engineOptions);
  const metrics = new ServerMetrics({ models: [model], processMetrics: false });
  const options = { models: [model], metrics, ...serverOptions };
  const app = createOpenAiServer({ ...options, version: '0.0.0' });
  addResponses(app, options, errorResponse);
  addMessages(app, options);
  return {
    engine,
    model,
    app,
    metrics,
    listen: async () => {
      await app.listen({ port: 0, host: '127.0.0.1' });
      const { port } = app.server.address() as AddressInfo;
      return { url: `http://127.0.0.1:${port}`, port };
    },
    close: async () => {
      await engine.close();
      await app.close();
    },
  };
}

/** A completion prompt after which a script of `says` begins at its beginning. */
export function promptOf(says: string, thenStops = false): string {
  return '.'.repeat(bytesOf(says).length + (thenStops ? 1 : 0));
}

const pollsMax = 60_000;

/** Resolves once `condition` holds, looking every millisecond or so; fails after {@link pollsMax} looks. */
export async function eventually(condition: () => boolean, what: string): Promise<void> {
  for (let poll = 0; poll < pollsMax; poll++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`never happened: ${what}`);
}
