import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { post } from '../../../test/openai/inject.ts';
import { promptOf, testServer } from '../../../test/openai/test-server.ts';
import { ApiKeys, plainKeys } from '../authentication.ts';

const says = 'Hello, wörld! ';
const prompt = promptOf(says);

describe('operations', () => {
  test('models and their aliases are listed and found; a missing name lists the served ones', async () => {
    const server = await testServer({ model: { aliases: ['org/alias'] } });
    const list = (await server.app.inject('/v1/models')).json();
    assert.deepEqual(
      list.data.map((card: { id: string }) => card.id),
      ['test', 'org/alias'],
    );
    assert.equal((await server.app.inject('/v1/models/org/alias')).json().root, 'test');
    const missing = await server.app.inject('/v1/models/other');
    assert.equal(missing.statusCode, 404);
    assert.match(missing.json().error.message, /'test', 'org\/alias'/);
    await server.close();
  });

  test('tokenizer_info has what a remote tokenizer needs', async () => {
    const server = await testServer();
    const info = (await server.app.inject('/tokenizer_info')).json();
    assert.deepEqual([info.eos_token, info.bos_token, info.model_max_length], ['<|endoftext|>', null, 2048]);
    assert.match(info.chat_template, /im_start/);
    await server.close();
  });

  test('reset_prefix_cache forgets what no request holds', async () => {
    const server = await testServer();
    const cached = async () => {
      const { body } = await post(server, '/v1/completions', { prompt: 'a'.repeat(100), max_tokens: 1 });
      return body.usage.prompt_tokens_details.cached_tokens > 0;
    };
    assert.deepEqual([await cached(), await cached()], [false, true]);
    assert.equal((await server.app.inject({ method: 'POST', url: '/reset_prefix_cache' })).statusCode, 200);
    assert.deepEqual([await cached(), await cached()], [false, true]);
    await server.close();
  });

  test('readiness follows the engine; liveness does not', async () => {
    const server = await testServer();
    assert.equal((await server.app.inject('/health/ready')).statusCode, 200);
    await server.engine.close();
    const ready = await server.app.inject('/health/ready');
    assert.equal(ready.statusCode, 503);
    assert.match(ready.json().reason, /test/);
    assert.equal((await server.app.inject('/health/live')).statusCode, 200);
    const refused = await post(server, '/v1/completions', { prompt: 'x' });
    assert.equal(refused.status, 503);
    assert.equal(refused.headers['retry-after'], '1');
    await server.close();
  });

  test('API keys guard the API and not health or metrics', async () => {
    const server = await testServer({ says }, { keys: new ApiKeys(plainKeys(['secret-1', 'secret-2'])) });
    const ask = (authorization?: string) =>
      server.app.inject({ url: '/v1/models', headers: authorization ? { authorization } : {} });
    for (const wrong of [undefined, 'Bearer', 'Bearer nope', 'Basic secret-1', 'Bearer secret-1x']) {
      const response = await ask(wrong);
      assert.deepEqual([response.statusCode, response.json().error.code], [401, 'invalid_api_key']);
    }
    assert.equal((await ask('Bearer secret-2')).statusCode, 200);
    assert.equal((await server.app.inject('/metrics')).statusCode, 200);
    assert.equal((await server.app.inject('/health/live')).statusCode, 200);
    await server.close();
  });

  test('metrics count what happened', async () => {
    const server = await testServer({ says });
    await post(server, '/v1/completions', { prompt, temperature: 0, max_tokens: 5 });
    const { body } = await server.app.inject('/metrics');
    const value = (name: string) => Number(new RegExp(`^${name} (.+)$`, 'm').exec(body)?.[1]);
    assert.equal(value('vllm:generation_tokens_total{model_name="test"}'), 5);
    assert.equal(value('vllm:prompt_tokens_total{model_name="test"}'), prompt.length);
    assert.equal(value('vllm:time_to_first_token_seconds_count{model_name="test"}'), 1);
    assert.equal(value('vllm:inter_token_latency_seconds_count{model_name="test"}'), 4);
    assert.equal(value('vllm:request_success_total{model_name="test",finished_reason="length"}'), 1);
    assert.equal(value('vllm:num_requests_running{model_name="test"}'), 0);
    assert.equal(value('http_requests_total{handler="/v1/completions",method="POST",status="200"}'), 1);
    await server.close();
  });

  test('one log line a request, without its text', async () => {
    const lines: { fields: Record<string, unknown>; message: string }[] = [];
    const log = (fields: object, message: string) =>
      void lines.push({ fields: fields as Record<string, unknown>, message });
    const server = await testServer({ says }, { logger: { info: log, warn: log, error: log } });
    await post(server, '/v1/completions', { prompt, max_tokens: 3, temperature: 0 });
    assert.equal(lines.length, 1);
    const { fields } = lines[0]!;
    assert.deepEqual(
      [
        fields.route,
        fields.status,
        fields.model,
        fields.prompt_tokens,
        fields.completion_tokens,
        fields.finish_reason,
      ],
      ['/v1/completions', 200, 'test', prompt.length, 3, 'length'],
    );
    assert.ok(!JSON.stringify(lines).includes('Hel'));
    await server.close();
  });

  test('a refused request’s line says why, in the words that the client got; an unknown path is in it', async () => {
    const lines: Record<string, unknown>[] = [];
    const log = (fields: object) => void lines.push(fields as Record<string, unknown>);
    const server = await testServer({ says }, { logger: { info: log, warn: log, error: log } });
    const { body } = await post(server, '/v1/completions', { prompt, temperature: 3 });
    const { code, message, param } = body.error;
    assert.deepEqual(lines[0]?.error, { code, message, param });
    await server.app.inject('/chat/completions?x=1');
    assert.equal(lines[1]?.path, '/chat/completions');
    assert.match((lines[1]!.error as { message: string }).message, /end the client's base URL with \/v1/);
    await server.close();
  });

  test('trailing and double slashes lead to the same routes', async () => {
    const server = await testServer({ says });
    for (const url of ['/v1/models/', '/v1//models', '//v1/models/test/', '/health/']) {
      assert.equal((await server.app.inject(url)).statusCode, 200, url);
    }
    await server.close();
  });

  test('a request over requestTimeoutMs ends with 504', async () => {
    const server = await testServer({ says, stepMs: 5 }, { limits: { requestTimeoutMs: 30 } });
    const { status, body } = await post(server, '/v1/completions', { prompt, max_tokens: 1000 });
    assert.deepEqual([status, body.error.code], [504, 'request_timeout']);
    assert.equal(server.engine.statistics().runningSequences <= 1, true);
    await server.close();
  });
});
