import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI, {
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
} from 'openai';
import { ApiKeys, plainKeys } from '../../src/protocol/authentication.ts';
import { eventually, promptOf, type TestServer, testServer } from './test-server.ts';

const says = 'All the world’s a stage. ';
const prompt = promptOf(says);

/** The official client against a server on a real port. */
async function connected(server: TestServer): Promise<OpenAI> {
  const { url } = await server.listen();
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });
}

describe('the official openai client', () => {
  let server: TestServer;
  let client: OpenAI;
  before(async () => {
    server = await testServer({ says });
    client = await connected(server);
  });
  after(() => server.close());

  test('chat', async () => {
    const answer = await client.chat.completions.create({
      model: 'test',
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'Hello' },
      ],
      max_completion_tokens: 20,
      temperature: 0,
      seed: 1,
      user: 'someone',
      logprobs: true,
      top_logprobs: 2,
    });
    assert.equal(answer.choices[0]?.finish_reason, 'length');
    assert.equal(answer.usage?.completion_tokens, 20);
    assert.equal(answer.choices[0]?.logprobs?.content?.length, 20);
  });

  test('a chat stream, gathered by the client, with usage', async () => {
    const stream = client.chat.completions.stream({
      model: 'test',
      messages: [{ role: 'user', content: 'Hello' }],
      max_tokens: 30,
      temperature: 0,
      stream_options: { include_usage: true },
    });
    let pieces = '';
    stream.on('content', (piece) => {
      pieces += piece;
    });
    const whole = await stream.finalChatCompletion();
    assert.equal(whole.choices[0]?.message.role, 'assistant');
    assert.equal(whole.choices[0]?.message.content, pieces);
    assert.ok(pieces.length > 20);
    assert.equal(whole.usage?.completion_tokens, 30);
  });

  test('completions, whole and streamed, say the same', async () => {
    const fields = { model: 'test', prompt, max_tokens: says.length, temperature: 0 };
    const whole = await client.completions.create(fields);
    let text = '';
    let events = 0;
    for await (const chunk of await client.completions.create({ ...fields, stream: true })) {
      text += chunk.choices[0]?.text ?? '';
      events++;
    }
    assert.equal(whole.choices[0]?.text, text);
    assert.ok(says.startsWith(text));
    assert.equal(events, says.length);
  });

  test('models', async () => {
    const names: string[] = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.deepEqual(names, ['test']);
    assert.equal((await client.models.retrieve('test')).owned_by, 'nereid');
  });

  test('errors are the client’s own classes with their fields', async () => {
    const chat = (fields: object) =>
      client.chat.completions.create({
        model: 'test',
        messages: [{ role: 'user', content: 'x' }],
        ...fields,
      });
    await assert.rejects(chat({ temperature: 9 }), (error: unknown) => {
      assert.ok(error instanceof BadRequestError);
      assert.equal(error.param, 'temperature');
      assert.equal(error.code, 'invalid_value');
      return true;
    });
    await assert.rejects(chat({ model: 'gpt-9' }), (error: unknown) => {
      assert.ok(error instanceof NotFoundError);
      assert.equal(error.code, 'model_not_found');
      return true;
    });
  });

  test('abort cancels what the engine does, streaming or not', async () => {
    for (const stream of [true, false]) {
      const slow = await testServer({ says, stepMs: 5 });
      const slowClient = await connected(slow);
      const controller = new AbortController();
      const fields = { model: 'test', prompt, max_tokens: 2000, stream };
      const asked = slowClient.completions.create(fields, { signal: controller.signal });
      asked.catch(() => {});
      await eventually(() => slow.engine.statistics().generatedTokens > 2, 'the engine works');
      controller.abort();
      if (!stream) await assert.rejects(asked, APIUserAbortError);
      await eventually(() => slow.engine.statistics().runningSequences === 0, 'the engine stops');
      assert.ok(slow.engine.statistics().generatedTokens < 1000);
      const metrics = (await slow.metrics.exposition()).text;
      assert.match(metrics, /request_success_total\{model_name="test",finished_reason="abort"\} 1/);
      await slow.close();
    }
  });

  test('wrong key, full queue and a closing engine', async () => {
    const guarded = await testServer({ says }, { keys: new ApiKeys(plainKeys(['right'])) });
    const wrong = await connected(guarded);
    await assert.rejects(wrong.models.list(), AuthenticationError);
    await guarded.close();

    const small = await testServer({ says, stepMs: 20, slots: 1, queuedRequestsMax: 2 });
    const crowd = await connected(small);
    const ask = () => crowd.completions.create({ model: 'test', prompt, max_tokens: 20 });
    const answers = await Promise.allSettled(Array.from({ length: 8 }, ask));
    const refused = answers.filter((answer) => answer.status === 'rejected');
    assert.ok(refused.length > 0 && refused.length < 8);
    for (const { reason } of refused) {
      assert.ok(reason instanceof RateLimitError, String(reason));
      assert.equal(reason.headers.get('retry-after'), '1');
    }
    await small.engine.close();
    await assert.rejects(
      ask(),
      (error: unknown) => error instanceof InternalServerError && error.status === 503,
    );
    await small.close();
  });

  test('an engine that closes in the middle of a stream ends it with an error event', async () => {
    const slow = await testServer({ says, stepMs: 2 });
    const slowClient = await connected(slow);
    const stream = await slowClient.completions.create({
      model: 'test',
      prompt,
      max_tokens: 2000,
      stream: true,
    });
    let events = 0;
    await assert.rejects(async () => {
      for await (const _ of stream) if (++events === 3) void slow.engine.close();
    }, /shutting down/);
    assert.ok(events >= 3);
    await slow.close();
  });
});
