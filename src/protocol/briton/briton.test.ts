import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import {
  Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { bytesOf } from '../../../test/openai/byte-tokenizer.ts';
import {
  eventually,
  promptOf,
  type TestEngineOptions,
  testEngine,
} from '../../../test/openai/test-server.ts';
import { adapterArrays } from '../../../test/support/null-adapters.ts';
import { stopStringsMax } from '../../base/limits.ts';
import { ApiKeys, plainKeys } from '../authentication.ts';
import { badWordsMax } from '../bad-words.ts';
import { messageCodec, type PlainMessage } from '../proto-messages.ts';
import { outputTokensDefault, streamsPerChannelMax, unreadPartsMax } from './limits.ts';
import { encodeAnswerPart, requestCodec } from './messages.ts';
import { type BritonServerOptions, startBriton } from './server.ts';

const requests = messageCodec('briton.proto', 'briton.InferenceRequest');
const answers = messageCodec('briton.proto', 'briton.InferenceAnswerPart');

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(engineOptions: TestEngineOptions = {}, options: Partial<BritonServerOptions> = {}) {
  const { engine, model } = await testEngine(engineOptions);
  const server = await startBriton({
    model,
    host: '127.0.0.1',
    port: 0,
    readiness: () => ({ '': true }),
    ...options,
  });
  const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure());
  closers.push(
    () => engine.close(),
    () => server.close(),
    () => client.close(),
  );
  return { engine, server, client };
}

function infer(
  client: Client,
  request: PlainMessage,
  metadata = new Metadata(),
): ClientReadableStream<PlainMessage> {
  return client.makeServerStreamRequest(
    '/briton.Briton/Infer',
    (message: PlainMessage) => requests.encode(message),
    (bytes) => answers.decode(bytes),
    request,
    metadata,
  );
}

async function gather(stream: ClientReadableStream<PlainMessage>) {
  const parts: PlainMessage[] = [];
  for await (const part of stream) parts.push(part as PlainMessage);
  return {
    parts,
    text: parts.map(({ output_text: text }) => text).join(''),
    ids: parts.flatMap(({ output_ids: ids }) => ids as number[]),
    finish: parts.at(-1)?.finish_reason,
  };
}

async function failure(stream: ClientReadableStream<PlainMessage>): Promise<ServiceError> {
  try {
    await gather(stream);
  } catch (thrown) {
    return thrown as ServiceError;
  }
  assert.fail('the call succeeded');
}

describe('messages', () => {
  test('requests are read as protobufjs writes them', () => {
    const request = {
      request_id: 123_456_789_012,
      input_text: 'héllo',
      input_ids: [5, 70_000, 0],
      request_output_len: 7,
      end_id: 2,
      pad_id: 3,
      beam_width: 1,
      temperature: 0.5,
      runtime_top_k: 40,
      runtime_top_p: 0.25,
      len_penalty: 1,
      repetition_penalty: 1.5,
      presence_penalty: -0.5,
      bad_words: ['a', 'b'],
      stop_words: ['c'],
      lora_task_id: 9,
      random_seed: -4,
      output_schema_hash: 'abc',
      tools_id: 6,
      force_tools: true,
    };
    assert.deepEqual(requestCodec.decode(requests.encode(request)), request);
    const empty = requestCodec.decode(Buffer.alloc(0));
    assert.deepEqual([empty.request_id, empty.temperature, empty.input_ids], [0, undefined, []]);
  });

  test('answers are read by protobufjs; ids of 64 bits come back exactly', () => {
    const part = { request_id: 7, output_text: '🙂', output_ids: [1, 2, 70_000], finish_reason: 2 };
    assert.deepEqual(answers.decode(encodeAnswerPart(part)), { ...part, finish_reason: 'STOP_WORDS' });
    const exact = 2n ** 63n - 1n;
    const bytes = encodeAnswerPart({
      request_id: exact,
      output_text: '',
      output_ids: [],
      finish_reason: 0,
    });
    assert.equal(requestCodec.decode(bytes).request_id, exact);
  });
});

describe('Infer', { concurrency: false }, () => {
  const says = 'Größe 🙂 counts. ';

  test('text in, deltas of whole characters out, with the ids and the reason', async () => {
    const { client } = await start({ says, stepMs: 1 });
    const request_output_len = bytesOf(says).length;
    const { parts, text, ids, finish } = await gather(
      infer(client, { request_id: 17, input_text: promptOf(says), request_output_len }),
    );
    assert.equal(text, says);
    assert.deepEqual(ids, [...bytesOf(says)]);
    assert.equal(finish, 'LENGTH');
    assert.ok(parts.every(({ request_id: id }) => id === 17));
    assert.ok(
      parts.every(({ output_text: delta }) => !String(delta).includes('\ufffd')),
      'no half characters',
    );
    assert.ok(parts.slice(0, -1).every(({ finish_reason: reason }) => reason === 'NOT_FINISHED'));
  });

  test('ids in; the length that nobody asked for', async () => {
    const { client } = await start({ says });
    const input_ids = [...bytesOf(promptOf(says))];
    const { ids, text } = await gather(infer(client, { input_ids, input_text: 'not this' }));
    assert.equal(ids.length, outputTokensDefault);
    assert.ok(text.startsWith(says));
  });

  test('end id, stop words, end of text', async () => {
    const { client } = await start({ says });
    const ask = (fields: PlainMessage) =>
      gather(infer(client, { input_text: promptOf(says), request_output_len: 60, ...fields }));
    const stopped = await ask({ stop_words: ['counts'] });
    assert.deepEqual([stopped.text, stopped.finish], ['Größe 🙂 ', 'STOP_WORDS']);
    const ended = await ask({ end_id: bytesOf('c')[0] });
    assert.deepEqual([ended.text, ended.finish], ['Größe 🙂 ', 'END_ID']);
    assert.ok(!ended.ids.includes(bytesOf('c')[0]!), 'the end id is in no part');
    const own = await start({ says: 'Yes.', thenStops: true });
    const natural = await gather(
      infer(own.client, { input_text: promptOf('Yes.', true), request_output_len: 60 }),
    );
    assert.deepEqual([natural.text, natural.finish], ['Yes.', 'END_ID']);
  });

  test('sampling: greedy without top-k and top-p, seeded draws repeat, other seeds differ, bad words never come', async () => {
    const { client } = await start();
    const ask = async (fields: PlainMessage): Promise<string> =>
      (await gather(infer(client, { input_text: 'hello', request_output_len: 40, ...fields }))).ids.join();
    const greedy = await ask({ temperature: 5 });
    assert.equal(await ask({ runtime_top_k: 1, temperature: 5 }), greedy);
    assert.equal(await ask({ runtime_top_p: 1, temperature: 0 }), greedy);
    const drawn = { runtime_top_k: 8, temperature: 2, random_seed: 3 };
    assert.equal(await ask(drawn), await ask(drawn));
    assert.notEqual(await ask(drawn), await ask({ ...drawn, random_seed: -3 }));
    assert.notEqual(await ask({ ...drawn, repetition_penalty: 9 }), await ask(drawn));
    assert.notEqual(await ask({ ...drawn, presence_penalty: 2 }), await ask(drawn));
    const [first = ''] = greedy.split(',');
    const banned = String.fromCharCode(Number(first));
    if (Number(first) > 32 && Number(first) < 127)
      assert.ok(!(await ask({ bad_words: [banned] })).split(',').includes(first));
    // Of two tokens: the second does not follow the first.
    const second = greedy.split(',').slice(0, 2);
    const pair = second.map((id) => String.fromCharCode(Number(id))).join('');
    if (second.every((id) => Number(id) > 32 && Number(id) < 127))
      assert.ok(!(await ask({ bad_words: [pair] })).includes(second.join()));
  });

  test('LoRA: a priming request brings the weights, later ones the task alone', async () => {
    const { client } = await start({ withAdapters: true });
    const { rows, length, weights, config } = adapterArrays(4);
    const bytes = (values: ArrayBufferView) =>
      Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    const brought = {
      lora_task_id: 4,
      lora_weights: { shape: { dim: [1, rows, length] }, dtype: 'DT_FLOAT16', data: bytes(weights) },
      lora_config: { shape: { dim: [1, rows, 3] }, dtype: 'DT_INT32', data: bytes(config) },
    };
    const ask = async (fields: PlainMessage, request_output_len = 8): Promise<string> =>
      (await gather(infer(client, { input_text: 'hello', request_output_len, ...fields }))).ids.join();
    const plain = await ask({});
    assert.match(
      (await failure(infer(client, { input_text: 'a', lora_task_id: 4 }))).details,
      /^LoRA task 4 not/,
    );
    await ask({ ...brought, input_text: ' ' }, 1);
    const adapted = await ask({ lora_task_id: 4 });
    assert.notEqual(adapted, plain);
    assert.equal(await ask(brought), adapted);
    const bad = [
      [{ ...brought, lora_config: undefined }, /must have both lora_weights and lora_keys/],
      [{ ...brought, lora_weights: { ...brought.lora_weights, dtype: 'DT_FP8' } }, /data type 13/],
      [
        { ...brought, lora_weights: { ...brought.lora_weights, data: Buffer.alloc(3) } },
        /3 bytes for the shape/,
      ],
    ] as const;
    for (const [fields, details] of bad) {
      const error = await failure(infer(client, { input_text: 'a', ...fields }));
      assert.equal(error.code, status.INVALID_ARGUMENT);
      assert.match(error.details, details);
    }
  });

  test('what cannot be is INVALID_ARGUMENT or UNIMPLEMENTED with the field', async () => {
    const { client } = await start({ contextLength: 64 });
    const text = { input_text: 'hello' };
    const halves = { shape: { dim: [1, 1] }, dtype: 'DT_FLOAT16', data: Buffer.alloc(2) };
    const cases: [PlainMessage, status, RegExp][] = [
      [{}, status.INVALID_ARGUMENT, /neither input_text nor input_ids/],
      [{ input_ids: [99_999] }, status.INVALID_ARGUMENT, /99999/],
      [{ input_ids: [-1] }, status.INVALID_ARGUMENT, /-1/],
      [{ input_ids: Array(64).fill(65) }, status.INVALID_ARGUMENT, /context is 64/],
      [{ ...text, request_output_len: 0 }, status.INVALID_ARGUMENT, /request_output_len/],
      [{ ...text, beam_width: 2 }, status.INVALID_ARGUMENT, /beam_width/],
      [{ ...text, temperature: -1 }, status.INVALID_ARGUMENT, /temperature/],
      [{ ...text, temperature: Number.NaN }, status.INVALID_ARGUMENT, /temperature/],
      [{ ...text, runtime_top_p: 1.5 }, status.INVALID_ARGUMENT, /runtime_top_p/],
      [{ ...text, repetition_penalty: 0 }, status.INVALID_ARGUMENT, /repetition_penalty/],
      [{ ...text, presence_penalty: 3 }, status.INVALID_ARGUMENT, /presence_penalty/],
      [{ ...text, end_id: 99_999 }, status.INVALID_ARGUMENT, /end_id/],
      [{ ...text, stop_words: Array(stopStringsMax + 1).fill('x') }, status.INVALID_ARGUMENT, /stop_words/],
      [{ ...text, stop_words: [''] }, status.INVALID_ARGUMENT, /stop/],
      [{ ...text, bad_words: Array(badWordsMax + 1).fill('x') }, status.INVALID_ARGUMENT, /bad_words/],
      [{ ...text, bad_words: [''] }, status.INVALID_ARGUMENT, /bad_words\[0\] is empty/],
      [{ ...text, lora_task_id: 1 }, status.UNIMPLEMENTED, /serves no LoRA adapters/],
      [{ ...text, lora_weights: halves }, status.INVALID_ARGUMENT, /lora_task_id must be set/],
      [{ ...text, output_schema_hash: 'abc' }, status.UNIMPLEMENTED, /output_schema_hash/],
      [{ ...text, force_tools: true }, status.INVALID_ARGUMENT, /force_tools/],
    ];
    for (const [request, code, details] of cases) {
      const error = await failure(infer(client, request));
      assert.equal(error.code, code, `${JSON.stringify(request)}: ${error.details}`);
      assert.match(error.details, details);
      assert.ok(error.metadata.get('nereid-error-code').length === 1);
    }
    const kept = await gather(infer(client, { ...text, request_output_len: 1000 }));
    assert.equal(kept.ids.length, 64 - 5, 'an answer ends where the context does');
    const harmless = {
      pad_id: 0,
      len_penalty: 1,
      beam_width: 1,
      output_schema_hash: '',
      force_tools: false,
      tools_id: 5,
    };
    assert.equal(
      (await gather(infer(client, { ...text, ...harmless, request_output_len: 3 }))).ids.length,
      3,
    );
  });

  test('keys: none, a wrong one, the right one', async () => {
    const { client } = await start({}, { keys: new ApiKeys(plainKeys(['secret'])) });
    const ask = (key?: string) => {
      const metadata = new Metadata();
      if (key) metadata.set('authorization', `Bearer ${key}`);
      return infer(client, { input_text: 'a', request_output_len: 1 }, metadata);
    };
    assert.equal((await failure(ask())).code, status.UNAUTHENTICATED);
    assert.equal((await failure(ask('other'))).code, status.UNAUTHENTICATED);
    assert.equal((await gather(ask('secret'))).ids.length, 1);
  });

  test('a cancelled call is cancelled in the engine', async () => {
    const { client, engine } = await start({ stepMs: 2 });
    const stream = infer(client, { input_text: 'a', request_output_len: 1900 });
    stream.on('error', () => {});
    await new Promise((resolve) => stream.once('data', resolve));
    assert.equal(engine.statistics().runningSequences, 1);
    stream.cancel();
    await eventually(() => engine.statistics().runningSequences === 0, 'the engine forgets it');
  });

  test('draining: new calls are refused, the running one finishes', async () => {
    const { client, server } = await start({ stepMs: 2 });
    const running = gather(infer(client, { input_text: 'a', request_output_len: 60 }));
    const second = infer(client, { input_text: 'a', request_output_len: 60 });
    await new Promise((resolve) => second.once('data', resolve));
    const drained = server.drain(60_000);
    assert.equal((await failure(infer(client, { input_text: 'b' }))).code, status.UNAVAILABLE);
    assert.equal((await running).ids.length, 60);
    second.resume();
    await drained;
  });

  test('a channel carries as many streams as the limit says; the next waits its turn', async () => {
    const { client, engine } = await start({ stepMs: 1, slots: 8 });
    const count = streamsPerChannelMax + 8;
    const all = Array.from({ length: count }, (_, id) =>
      gather(infer(client, { request_id: id, input_text: 'a', request_output_len: 2 })),
    );
    let most = 0;
    const watch = setInterval(() => {
      const { runningSequences, waitingRequests } = engine.statistics();
      most = Math.max(most, runningSequences + waitingRequests);
    }, 1);
    const results = await Promise.all(all);
    clearInterval(watch);
    assert.ok(results.every(({ ids, parts }, id) => ids.length === 2 && parts[0]!.request_id === id));
    assert.ok(most <= streamsPerChannelMax, `${most} at once`);
  });

  test('a reader that leaves its answer unread is cut off', async () => {
    const { client, engine } = await start({ says: 'x', contextLength: 4_000_000, slots: 1 });
    const stream = infer(client, { input_text: 'a', request_output_len: 3_900_000 });
    const error = new Promise<ServiceError>((resolve) =>
      stream.once('error', (thrown) => resolve(thrown as ServiceError)),
    );
    await new Promise((resolve) => stream.once('data', resolve));
    stream.pause();
    await eventually(() => engine.statistics().runningSequences === 0, 'the engine stops for it');
    stream.resume();
    const { code, details } = await error;
    assert.equal(code, status.CANCELLED);
    assert.match(details, new RegExp(String(unreadPartsMax)));
  });
});
