import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import fc from 'fast-check';
import { packageRoot } from '../../src/base/entry.ts';
import { nullModelSource } from '../../src/device/null/index.ts';
import { messageCodec, type PlainMessage } from '../../src/protocol/proto-messages.ts';
import { openRepository } from '../../src/repository/repository.ts';
import { servedRepository } from '../../src/repository/served-repository.ts';
import { LocalEngine } from '../../src/runtime/local-engine.ts';
import { loadModel } from '../../src/runtime/process/load-model.ts';
import { eventually, testEngine } from '../openai/test-server.ts';
import { AuditedModel } from '../support/audited-model.ts';
import { ask } from './ask.ts';
import { writeTestModels } from './models.ts';
import { tritonServer } from './test-server.ts';

const streamPath = '/inference.GRPCInferenceService/ModelStreamInfer';
const requests = messageCodec('grpc_service.proto', 'inference.ModelInferRequest');
const responses = messageCodec('grpc_service.proto', 'inference.ModelStreamInferResponse');
const int32 = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);

/** Third prompt token of the first stream: by it a batch's text is known. */
const firstKey = 10;

/** An engine that remembers its batches, and at which of them each request's cancel arrived (by the third token of its prompt). */
async function auditedNullEngine() {
  const slots = 64;
  const batchTokensMax = 4096;
  const size = { vocabularySize: 300, contextLength: 1024 };
  // It audits what a device answers at once; between two steps the event loop turns.
  const deviceOptions = { 'step-ms': '0' };
  const { model, options } = await loadModel('null', nullModelSource(size), {
    ...{ device: 'null', deviceOptions, slots, batchTokensMax, kvDtype: 'f16', threads: 1 },
    prefixReuse: false,
  });
  const audited = new AuditedModel(model, { batchTokensMax, sequencesMax: slots });
  const engine = new LocalEngine(audited, options);
  const cancelledAt = new Map<number, number>();
  const submit = engine.submit.bind(engine);
  engine.submit = (request, listener) => {
    const handle = submit(request, listener);
    const cancel = (sequence?: number): void => {
      cancelledAt.set(request.promptTokens[2] as number, audited.batches.length);
      handle.cancel(sequence);
    };
    return { ...handle, cancel };
  };
  return { engine, audited, cancelledAt };
}

function tokenRequest(id: string, tokens: number, key = 7): PlainMessage {
  const one = (name: string, datatype: string) => ({ name, datatype, shape: [1, 1] });
  return {
    model_name: 'tensorrt_llm',
    id,
    inputs: [
      { name: 'input_ids', datatype: 'INT32', shape: [1, 3] },
      one('input_lengths', 'INT32'),
      one('request_output_len', 'INT32'),
      one('end_id', 'INT32'),
      one('streaming', 'BOOL'),
    ],
    raw_input_contents: [int32(5, 6, key), int32(3), int32(tokens), int32(-1), Buffer.from([1])],
  };
}

function openStream(client: Client) {
  const call = client.makeBidiStreamRequest(
    streamPath,
    (message: PlainMessage) => requests.encode(message),
    (bytes) => responses.decode(bytes),
  );
  const seen = { responses: 0, ended: false, error: undefined as ServiceError | undefined };
  call.on('data', () => seen.responses++);
  call.on('end', () => {
    seen.ended = true;
  });
  call.on('error', (error: ServiceError) => {
    seen.error = error;
  });
  return { call, seen };
}

describe('clients that leave', () => {
  test('of 64 streams half are cancelled: no batch planned after that holds them, the others are answered whole', async (context) => {
    const { engine, audited, cancelledAt } = await auditedNullEngine();
    const tokenizerFolder = join(packageRoot, 'models', 'nereid-16m');
    const served = await servedRepository([{ name: 'test', client: engine, tokenizerFolder }]);
    const server = await tritonServer({ repository: served.repository });
    context.after(async () => {
      await server.close();
      await served.close();
      await engine.close();
    });
    const tokens = 300;
    const streams = Array.from({ length: 64 }, (_, i) => {
      const stream = openStream(server.client);
      stream.call.write(tokenRequest(String(i), tokens, firstKey + i));
      stream.call.end();
      return stream;
    });
    const [left, stayed] = [streams.slice(0, 32), streams.slice(32)];
    await eventually(() => left.every(({ seen }) => seen.responses > 0), 'they have begun');
    for (const { call } of left) call.cancel();
    await eventually(() => stayed.every(({ seen }) => seen.ended), 'the others end');
    for (const { seen } of stayed) assert.equal(seen.responses, tokens);
    for (const { seen } of left) assert.ok(seen.responses < tokens);
    await eventually(() => engine.statistics().runningSequences === 0, 'nothing runs on');
    assert.equal(cancelledAt.size, 32);
    for (const [key, batch] of cancelledAt) {
      const later = audited.batches.slice(batch).flatMap(({ segments }) => segments);
      assert.ok(!later.some(({ text }) => text[2] === key), `the sequence of ${key} is in a later batch`);
    }
  });

  test('a closed socket cancels generate and generate_stream', async (context) => {
    const { engine } = await testEngine({ slots: 4, stepMs: 2, contextLength: 4096 });
    const tokenizerFolder = join(packageRoot, 'models', 'nereid-16m');
    const served = await servedRepository([{ name: 'test', client: engine, tokenizerFolder }]);
    const server = await tritonServer({ repository: served.repository });
    context.after(async () => {
      await server.close();
      await served.close();
      await engine.close();
    });
    for (const route of ['generate', 'generate_stream']) {
      const body = {
        input_ids: [5, 6, 7],
        input_lengths: 3,
        request_output_len: 4000,
        end_id: -1,
        streaming: true,
      };
      const sent = request({
        port: server.httpPort,
        method: 'POST',
        path: `/v2/models/tensorrt_llm/${route}`,
        headers: { connection: 'close' },
      });
      sent.on('error', () => {});
      sent.end(JSON.stringify(body));
      await eventually(() => engine.statistics().runningSequences === 1, `${route} runs`);
      sent.destroy();
      await eventually(() => engine.statistics().runningSequences === 0, `${route} is cancelled`);
    }
  });
});

describe('malformed requests', () => {
  test('any tensors, shapes, types and lengths get an answer, and the server goes on', async () => {
    const folder = writeTestModels();
    const engines = { acquire: () => Promise.reject(new Error('these models need no engine')) };
    const repository = await openRepository({ folders: [folder], engines });
    const server = await tritonServer({ repository });
    const number = fc.oneof(fc.integer(), fc.constantFrom(-1, 0, 1, 2, 2 ** 31, 2 ** 53, 1.5));
    const value = fc.oneof(fc.jsonValue(), number, fc.array(number));
    const input = fc.record(
      {
        name: fc.constantFrom('IN', 'IN_INT32', 'IN_STRING', 'x'),
        shape: fc.oneof(fc.array(number, { maxLength: 4 }), fc.jsonValue()),
        datatype: fc.constantFrom('INT32', 'BYTES', 'FP16', 'INT33', ''),
        data: value,
        parameters: fc.record(
          {
            binary_data_size: value,
            shared_memory_region: value,
            shared_memory_byte_size: value,
            shared_memory_offset: value,
          },
          { requiredKeys: [] },
        ),
      },
      { requiredKeys: ['name'] },
    );
    const body = fc.record(
      {
        id: fc.oneof(fc.string(), value),
        inputs: fc.oneof(fc.array(input, { maxLength: 3 }), value),
        outputs: value,
        parameters: value,
      },
      { requiredKeys: [] },
    );
    const models = fc.constantFrom('ident', 'batched', 'single', 'text', 'repeat', 'nope');
    const bytes = fc.uint8Array({ maxLength: 40 });
    const length = fc.option(fc.oneof(fc.integer({ min: -5, max: 400 }).map(String), fc.string()));
    const statuses = [200, 400, 404, 500, 501];
    const property = fc.asyncProperty(models, body, bytes, length, async (model, json, tail, header) => {
      const text = JSON.stringify(json);
      const isValid = header !== null && /^[\x21-\x7e]*$/.test(header);
      const one = {
        name: '',
        method: 'POST',
        path: `/v2/models/${model}/infer`,
        headers: isValid ? { 'Inference-Header-Content-Length': header } : undefined,
        body: Buffer.concat([Buffer.from(text), isValid ? tail : Buffer.alloc(0)]),
      };
      const { status, body: said } = await ask(server.httpPort, one);
      assert.ok(statuses.includes(status), `${status} ${said}`);
      if (status !== 200) assert.equal(typeof JSON.parse(said).error, 'string');
      const generated = await ask(server.httpPort, {
        ...one,
        path: `/v2/models/${model}/generate`,
        headers: undefined,
      });
      assert.ok(statuses.includes(generated.status), `${generated.status} ${generated.body}`);
    });
    await fc.assert(property, { numRuns: 300 });
    const raw = fc.asyncProperty(bytes, fc.nat(300), async (tail, cut) => {
      const valid = requests.encode(tokenRequest('1', 1));
      const message = Buffer.concat([valid.subarray(0, cut), tail]);
      const error = await new Promise<ServiceError | null>((resolve) =>
        server.client.makeUnaryRequest(
          '/inference.GRPCInferenceService/ModelInfer',
          (encoded: Buffer) => encoded,
          (encoded) => encoded,
          message,
          (failed) => resolve(failed),
        ),
      );
      assert.ok(error, 'such a request cannot be right');
    });
    await fc.assert(raw, { numRuns: 300 });
    const alive = await ask(server.httpPort, { name: '', method: 'GET', path: '/v2/health/ready' });
    assert.equal(alive.status, 200);
    const client = new Client(`127.0.0.1:${server.grpcPort}`, credentials.createInsecure());
    const { call, seen } = openStream(client);
    // A refusal, and a good request after it on the same stream: the genuine server dies of this.
    call.write({
      model_name: 'repeat',
      id: 'a',
      inputs: [{ name: 'NOPE', datatype: 'INT32', shape: [1] }],
      raw_input_contents: [int32(1)],
    });
    call.write({
      model_name: 'repeat',
      id: 'b',
      inputs: [{ name: 'IN', datatype: 'INT32', shape: [2] }],
      raw_input_contents: [int32(1, 2)],
    });
    call.end();
    await eventually(() => seen.ended, 'the stream ends');
    assert.equal(seen.responses, 3);
    client.close();
    await server.close();
    await repository.close(0);
    rmSync(folder, { recursive: true });
  });
});

describe('requests that are small to send and long to work on', () => {
  test('too many values, members, parameters, inputs, words, or too long words are refused before work, and the server goes on', async () => {
    const { engine } = await testEngine({ slots: 4, contextLength: 512 });
    const tokenizerFolder = join(packageRoot, 'models', 'nereid-16m');
    const served = await servedRepository([{ name: 'test', client: engine, tokenizerFolder }]);
    const server = await tritonServer({ repository: served.repository });
    const post = async (
      model: string,
      kind: string,
      body: string,
    ): Promise<{ status: number; text: string }> => {
      const url = `http://127.0.0.1:${server.httpPort}/v2/models/${model}/${kind}`;
      const response = await fetch(url, { method: 'POST', body });
      return { status: response.status, text: await response.text() };
    };
    const generate = (fields: object): Promise<{ status: number; text: string }> =>
      post('ensemble', 'generate', JSON.stringify({ text_input: 'a', max_tokens: 2, ...fields }));
    const numbered = (count: number, name: (index: number) => string): Record<string, number> =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [name(index), 0]));
    const one = (name: string) => `{"name":"${name}","datatype":"INT32","shape":[1],"data":[1]}`;
    const many = (value: string, count: number): string =>
      `{"inputs":[{"name":"QUERY","datatype":"BYTES","shape":[${count},1],"data":[${Array(count).fill(value).join(',')}]}]}`;
    const refusals: [Promise<{ status: number; text: string }>, RegExp][] = [
      [generate({ stop_words: Array(2_000).fill('a') }), /STOP_WORDS_DICT has 2000 words; at most 1024/],
      [generate({ bad_words: Array(2_000).fill('a') }), /BAD_WORDS_DICT has 2000 words; at most 1024/],
      [generate({ bad_words: ['a'.repeat(5_000)] }), /a word of over 1024 characters/],
      [generate(numbered(2_000, (index) => `f${index}`)), /parameters; at most 1024/],
      [generate(numbered(40_000, (index) => `f${index}`)), /over 32768 members/],
      [post('preprocessing', 'infer', many('""', 300_000)), /over 262144 arrays, members and strings/],
      [post('preprocessing', 'infer', many('1', 1_100_000)), /over 1048576 values/],
      [
        post(
          'preprocessing',
          'infer',
          `{"inputs":[${Array.from({ length: 1_100 }, (_, i) => one(`i${i}`)).join(',')}]}`,
        ),
        /over 1024 inputs/,
      ],
    ];
    for (const [asked, expected] of refusals) {
      const { status, text } = await asked;
      assert.equal(status, 400, text);
      assert.match(text, expected);
    }
    assert.equal((await generate({})).status, 200);
    await server.close();
    await served.close();
    await engine.close();
  });
});
