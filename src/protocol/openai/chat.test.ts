import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { eventsOf, post } from '../../../test/openai/inject.ts';
import { type TestServer, testServer } from '../../../test/openai/test-server.ts';

describe('chat', () => {
  const reply = 'Good day.';
  let server: TestServer;
  before(async () => {
    server = await testServer({ says: reply, thenStops: true });
  });
  after(() => server.close());
  /** A user message that makes the templated prompt a multiple of the script's length. */
  const aligned = async (message: object = {}) => {
    const length = reply.length + 1;
    for (let padding = 0; padding < length; padding++) {
      const messages = [{ role: 'user', content: 'x'.repeat(padding), ...message }];
      const { body } = await post(server, '/tokenize', { messages });
      if (body.count % length === 0) return messages;
    }
    throw new Error('no padding aligns');
  };

  test('the model ends its turn', async () => {
    const messages = await aligned();
    const { status, body } = await post(server, '/v1/chat/completions', { messages, temperature: 0 });
    assert.equal(status, 200);
    assert.match(body.id, /^chatcmpl-/);
    assert.equal(body.model, 'test');
    const [choice] = body.choices;
    assert.deepEqual(choice.message, { role: 'assistant', content: reply, refusal: null });
    assert.equal(choice.finish_reason, 'stop');
    assert.equal(body.usage.completion_tokens, reply.length + 1);
  });

  test('ignore_eos goes on to the limit', async () => {
    const messages = await aligned();
    const fields = { messages, temperature: 0, ignore_eos: true, max_completion_tokens: 12 };
    const { body } = await post(server, '/v1/chat/completions', fields);
    assert.equal(body.choices[0].finish_reason, 'length');
    assert.equal(body.choices[0].message.content, 'Good day.Go');
    const shown = await post(server, '/v1/chat/completions', { ...fields, skip_special_tokens: false });
    assert.equal(shown.body.choices[0].message.content, 'Good day.<|endoftext|>Go');
  });

  test('continuous usage: counts in every event, over all choices', async () => {
    const messages = await aligned();
    const stream_options = { continuous_usage_stats: true, include_usage: true };
    const payload = { messages, temperature: 0, stream: true, n: 2, stream_options };
    const response = await server.app.inject({ method: 'POST', url: '/v1/chat/completions', payload });
    const chunks = eventsOf(response.body).slice(0, -1) as {
      choices: object[];
      usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
    }[];
    const counts = chunks.map((chunk) => chunk.usage.completion_tokens);
    const total = 2 * (reply.length + 1);
    assert.deepEqual(
      counts,
      [...counts].sort((a, b) => a - b),
    );
    assert.deepEqual([counts[0], counts.at(-2), counts.at(-1)], [0, total, total]);
    const last = chunks.at(-1);
    assert.deepEqual(last?.choices, []);
    assert.equal(chunks[0]?.usage.prompt_tokens, last?.usage.prompt_tokens);
    assert.equal(last?.usage.total_tokens, total + last!.usage.prompt_tokens);
  });

  test('a stream begins with the role and ends with an empty delta', async () => {
    const messages = await aligned();
    const payload = { messages, temperature: 0, stream: true, n: 2 };
    const response = await server.app.inject({ method: 'POST', url: '/v1/chat/completions', payload });
    const events = eventsOf(response.body);
    assert.equal(events.at(-1), '[DONE]');
    interface Chunk {
      object: string;
      choices: { index: number; delta: { role?: string; content?: string }; finish_reason: string | null }[];
    }
    const chunks = events.slice(0, -1) as Chunk[];
    for (const index of [0, 1]) {
      const own = chunks.map((chunk) => chunk.choices[0]!).filter((choice) => choice.index === index);
      assert.deepEqual(own[0]?.delta, { role: 'assistant', content: '' });
      assert.equal(own.map((choice) => choice.delta.content ?? '').join(''), reply);
      assert.deepEqual(own.at(-1)?.delta, {});
      assert.equal(own.at(-1)?.finish_reason, 'stop');
      assert.equal(own.length, reply.length + 2);
    }
    assert.ok(chunks.every((chunk) => chunk.object === 'chat.completion.chunk' && !('usage' in chunk)));
  });

  test('logprobs with bytes, whole and streamed', async () => {
    const messages = await aligned();
    const fields = { messages, temperature: 0, logprobs: true, top_logprobs: 3 };
    const { body } = await post(server, '/v1/chat/completions', fields);
    const { content } = body.choices[0].logprobs;
    assert.equal(content.length, reply.length);
    assert.deepEqual([content[0].token, content[0].bytes], ['G', [71]]);
    assert.equal(content[0].top_logprobs.length, 3);
    const payload = { ...fields, stream: true };
    const response = await server.app.inject({ method: 'POST', url: '/v1/chat/completions', payload });
    const [, second] = eventsOf(response.body) as { choices: { logprobs: { content: unknown[] } }[] }[];
    assert.deepEqual(second?.choices[0]?.logprobs.content, content.slice(0, 1));
  });

  test('tools reach the template, except with tool_choice none', async () => {
    const tools = [{ type: 'function', function: { name: 'look', parameters: { type: 'object' } } }];
    const messages = [{ role: 'user', content: 'hi' }];
    const detokenized = async (fields: object) => {
      const { body } = await post(server, '/tokenize', { messages, ...fields });
      return (await post(server, '/detokenize', { tokens: body.tokens })).body.prompt as string;
    };
    assert.match(await detokenized({ tools }), /<\|im_start\|>tools\n.*"look"/);
    const plain = await post(server, '/v1/chat/completions', {
      messages,
      tools,
      tool_choice: 'none',
      max_tokens: 1,
    });
    const withTools = await post(server, '/v1/chat/completions', { messages, tools, max_tokens: 1 });
    assert.ok(withTools.body.usage.prompt_tokens > plain.body.usage.prompt_tokens + 20);
    const forced = await post(server, '/v1/chat/completions', { messages, tool_choice: 'required' });
    assert.deepEqual([forced.status, forced.body.error.param], [400, 'tool_choice']);
  });

  test('developer messages, content parts, tool calls and answers are taken', async () => {
    const messages = [
      { role: 'developer', content: 'be kind' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
      {
        role: 'assistant',
        content: null,
        tool_calls: [{ id: '1', type: 'function', function: { name: 'f', arguments: '{"a":1}' } }],
      },
      { role: 'tool', tool_call_id: '1', content: 'done' },
    ];
    const { status, body } = await post(server, '/tokenize', { messages });
    assert.equal(status, 200);
    const text = (await post(server, '/detokenize', { tokens: body.tokens })).body.prompt;
    assert.match(text, /^<\|im_start\|>system\nbe kind<\|im_end\|>\n<\|im_start\|>user\nab<\|im_end\|>/);
  });

  test('echo continues an assistant message', async () => {
    const messages = [
      { role: 'user', content: 'x' },
      { role: 'assistant', content: 'So' },
    ];
    const fields = { messages, echo: true, add_generation_prompt: false, max_tokens: 1, temperature: 0 };
    const { body } = await post(server, '/v1/chat/completions', fields);
    assert.match(body.choices[0].message.content, /^So/);
    assert.equal(
      (await post(server, '/v1/chat/completions', { ...fields, add_generation_prompt: true })).status,
      400,
    );
  });
});
