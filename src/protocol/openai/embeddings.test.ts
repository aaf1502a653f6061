import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { post } from '../../../test/openai/inject.ts';
import { type TestServer, testServer } from '../../../test/openai/test-server.ts';
import { embeddingInputsMax } from '../limits.ts';

/** Columns of the null device's hidden states. */
const width = 16;
const contextLength = 64;

describe('embeddings', () => {
  let server: TestServer;
  before(async () => {
    server = await testServer({ contextLength });
  });
  after(() => server.close());

  const embed = async (fields: object): Promise<{ data: { index: number; embedding: number[] }[] }> => {
    const { status, body } = await post(server, '/v1/embeddings', { model: 'test', ...fields });
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  };
  const refused = async (fields: object, url = '/v1/embeddings') => {
    const { status, body } = await post(server, url, fields);
    assert.equal(status, 400, JSON.stringify(body));
    return body.error as { message: string; param: string; code: string };
  };
  const lengthOf = (vector: readonly number[]): number => Math.hypot(...vector);
  const near = (actual: readonly number[], expected: readonly number[]): void => {
    assert.equal(actual.length, expected.length);
    for (const [at, value] of actual.entries()) assert.ok(Math.abs(value - expected[at]!) < 1e-6);
  };

  test('a text, its ids, and lists of either give the same vector, of length 1', async () => {
    const ids = [...Buffer.from('Hello')];
    const [single] = (await embed({ input: 'Hello' })).data;
    assert.equal(single?.embedding.length, width);
    assert.ok(Math.abs(lengthOf(single.embedding) - 1) < 1e-6);
    for (const input of [['Hello'], ids, [ids]])
      near((await embed({ input })).data[0]!.embedding, single.embedding);
  });

  test('many inputs come back in their order, with OpenAI’s shape and counts', async () => {
    const input = ['one', 'two', 'three', 'one'];
    const { data, ...rest } = await embed({ input });
    assert.deepEqual(
      data.map(({ index }) => index),
      [0, 1, 2, 3],
    );
    assert.deepEqual(data[0]?.embedding, data[3]?.embedding);
    assert.notDeepEqual(data[0]?.embedding, data[1]?.embedding);
    const tokens = input.join('').length;
    const { prompt_tokens_details: details, ...usage } = (rest as { usage?: Record<string, unknown> }).usage!;
    assert.deepEqual(
      { ...rest, usage },
      {
        object: 'list',
        model: 'test',
        usage: { prompt_tokens: tokens, total_tokens: tokens },
      },
    );
    assert.ok(details);
  });

  test('base64 is the float32 values, little-endian', async () => {
    const floats = (await embed({ input: 'Hello' })).data[0]!.embedding;
    const text = (await embed({ input: 'Hello', encoding_format: 'base64' })).data[0]!.embedding;
    const bytes = Buffer.from(text as unknown as string, 'base64');
    near(
      Array.from({ length: width }, (_, at) => bytes.readFloatLE(at * 4)),
      floats,
    );
  });

  test('dimensions cut the vector, and normalize it again', async () => {
    const whole = (await embed({ input: 'Hello' })).data[0]!.embedding;
    const cut = (await embed({ input: 'Hello', dimensions: 4 })).data[0]!.embedding;
    const scale = lengthOf(whole.slice(0, 4));
    near(
      cut,
      whole.slice(0, 4).map((value) => value / scale),
    );
    const { message } = await refused({ input: 'Hello', dimensions: width + 1 });
    assert.match(message, /17.*have 16/);
  });

  test('pooling and normalize are the request’s to choose', async () => {
    const last = (await embed({ input: 'Hello', pooling: 'last' })).data[0]!.embedding;
    const mean = (await embed({ input: 'Hello', pooling: 'mean' })).data[0]!.embedding;
    const raw = (await embed({ input: 'Hello', normalize: false })).data[0]!.embedding;
    near((await embed({ input: 'Hello' })).data[0]!.embedding, last);
    assert.notDeepEqual(mean, last);
    const length = lengthOf(raw);
    near(
      raw.map((value) => value / length),
      last,
    );
  });

  test('a text may fill the context, and no more; truncate_prompt_tokens cuts it', async () => {
    await embed({ input: 'x'.repeat(contextLength) });
    const { code, param } = await refused({ input: 'x'.repeat(contextLength + 1) });
    assert.deepEqual([code, param], ['context_length_exceeded', 'input']);
    const cut = await embed({ input: `${'y'.repeat(60)}Hello`, truncate_prompt_tokens: 5 });
    near(cut.data[0]!.embedding, (await embed({ input: 'Hello' })).data[0]!.embedding);
    await embed({ input: 'x'.repeat(contextLength * 2), truncate_prompt_tokens: -1 });
  });

  test('what is wrong is named', async () => {
    for (const input of [[], '', [[]], [-1], [1.5], { text: 'Hello' }, [1, 'a'], undefined]) {
      const { param } = await refused({ input });
      assert.match(String(param), /^input/, JSON.stringify(input));
    }
    assert.match((await refused({ input: [9999] })).message, /outside the vocabulary/);
    assert.equal((await refused({ input: 'a', encoding_format: 'int8' })).param, 'encoding_format');
    assert.equal((await refused({ input: 'a', dimensions: 0 })).param, 'dimensions');
    assert.equal((await refused({ input: 'a', pooling: 'max' })).param, 'pooling');
    const { message } = await refused({ input: new Array(embeddingInputsMax + 1).fill('a') });
    assert.match(message, new RegExp(`${embeddingInputsMax}`));
  });

  test('the official client embeds while others generate', async () => {
    const { url } = await server.listen();
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });
    const [text, embedded] = await Promise.all([
      client.completions.create({ model: 'test', prompt: 'Hello', max_tokens: 20 }),
      // Asks for base64, and decodes it.
      client.embeddings.create({ model: 'test', input: ['Hello', 'there'], dimensions: 8 }),
    ]);
    assert.equal(text.usage?.completion_tokens, 20);
    assert.deepEqual(
      embedded.data.map(({ embedding }) => embedding.length),
      [8, 8],
    );
    assert.equal(embedded.usage.prompt_tokens, 10);
    assert.equal(server.engine.statistics().runningSequences, 0);
  });

  test('score: one with each, or pair by pair; a text with itself is 1', async () => {
    const score = async (text_1: unknown, text_2: unknown): Promise<number[]> => {
      const { status, body } = await post(server, '/v1/score', { model: 'test', text_1, text_2 });
      assert.equal(status, 200, JSON.stringify(body));
      assert.deepEqual([body.object, body.usage.completion_tokens], ['list', 0]);
      return body.data.map((each: { score: number; index: number }, at: number) => {
        assert.equal(each.index, at);
        return each.score;
      });
    };
    const [same, other] = await score('Hello', ['Hello', 'Bye']);
    assert.ok(Math.abs(same! - 1) < 1e-6 && other! < same!);
    near(await score(['Hello', 'Bye'], ['Bye', 'Hello']), [other!, other!]);
    near(await score(['Hello'], ['Hello']), [1]);
    const wrong = { model: 'test', text_1: ['a', 'b'], text_2: ['c'] };
    assert.equal((await refused(wrong, '/score')).param, 'text_1');
  });

  test('rerank: the nearest document first', async () => {
    const fields = { model: 'test', query: 'Hello', documents: ['Bye', 'Hello', { text: 'Why' }] };
    const { body } = await post(server, '/v1/rerank', fields);
    assert.equal(body.results.length, 3);
    assert.deepEqual([body.results[0].index, body.results[0].document], [1, { text: 'Hello' }]);
    const scores = body.results.map((each: { relevance_score: number }) => each.relevance_score);
    assert.deepEqual(
      scores,
      [...scores].sort((a, b) => b - a),
    );
    const top = (await post(server, '/rerank', { ...fields, top_n: 1, return_documents: false })).body;
    assert.deepEqual(top.results, [{ index: 1, relevance_score: scores[0] }]);
    assert.equal((await refused({ ...fields, documents: [] }, '/v2/rerank')).param, 'documents');
  });
});

test('more embeddings than an answer holds are refused before anything is computed', async () => {
  const server = await testServer();
  try {
    const { description } = server.engine;
    Object.assign(description, { hiddenWidth: 4096 });
    const { status, body } = await post(server, '/v1/embeddings', { input: new Array(2000).fill('a') });
    assert.equal(status, 400);
    assert.equal(body.error.code, 'answer_too_large');
    assert.match(body.error.message, /base64/);
  } finally {
    await server.close();
  }
});

test('an engine that gives no hidden states says so', async () => {
  const server = await testServer();
  try {
    Object.assign(server.engine.description, { hiddenWidth: 0 });
    const { status, body } = await post(server, '/v1/embeddings', { input: 'a' });
    assert.equal(status, 400);
    assert.equal(body.error.code, 'outputs_unsupported');
  } finally {
    await server.close();
  }
});

test('the server’s own pooling is the default', async () => {
  const server = await testServer({ model: { pooling: 'mean' } });
  try {
    const of = async (fields: object) =>
      (await post(server, '/v1/embeddings', { input: 'Hello', ...fields })).body.data;
    assert.deepEqual(await of({}), await of({ pooling: 'mean' }));
    assert.notDeepEqual(await of({}), await of({ pooling: 'last' }));
  } finally {
    await server.close();
  }
});
