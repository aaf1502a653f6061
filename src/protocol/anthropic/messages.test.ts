import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { alignedUserText } from '../../../test/openai/aligned.ts';
import { post } from '../../../test/openai/inject.ts';
import { type TestServer, testServer } from '../../../test/openai/test-server.ts';
import { ApiKeys, plainKeys } from '../authentication.ts';
import { format as think } from '../reasoning/think.ts';
import { format as hermes } from '../tool-parsers/hermes.ts';

const reply =
  '<think>\nHm.\n</think>\n\nOne moment.<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>';
const length = reply.length + 1;
const tools = [{ name: 'add', input_schema: {} }];
const chatTools = [{ type: 'function', function: { name: 'add', parameters: {} } }];
const path = '/v1/messages';

function server(options = {}, contextLength = 2048): Promise<TestServer> {
  const model = { formats: { tools: hermes, reasoning: think } };
  return testServer({ says: reply, thenStops: true, model, contextLength }, options);
}

interface Event {
  type: string;
  index?: number;
  delta?: Record<string, string>;
}

function eventsOf(body: string): Event[] {
  return body
    .trimEnd()
    .split('\n\n')
    .map((block) => {
      const [name, data] = block.split('\n');
      const event = JSON.parse((data ?? '').slice('data: '.length));
      assert.equal(name, `event: ${event.type}`);
      return event;
    });
}

describe('/v1/messages', () => {
  test('thinking, text and a call are blocks', async () => {
    const app = await server();
    const content = await alignedUserText(app, length, { tools: chatTools });
    const payload = {
      model: 'test',
      max_tokens: 500,
      messages: [{ role: 'user', content }],
      tools,
      temperature: 0,
    };
    const { status, body } = await post(app, path, payload);
    assert.equal(status, 200, JSON.stringify(body));
    assert.deepEqual(
      [body.type, body.role, body.stop_reason, body.stop_sequence],
      ['message', 'assistant', 'tool_use', null],
    );
    const [thought, text, call] = body.content;
    assert.deepEqual(thought, { type: 'thinking', thinking: 'Hm.', signature: '' });
    assert.deepEqual(text, { type: 'text', text: 'One moment.' });
    assert.deepEqual([call.type, call.name, call.input], ['tool_use', 'add', { a: 1 }]);
    assert.match(call.id, /^toolu_/);
    assert.equal(body.usage.output_tokens, length);
    const counted = await post(app, `${path}/count_tokens`, { messages: payload.messages, tools });
    const { usage } = body;
    assert.equal(counted.body.input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
    await app.close();
  });

  test('a stream tells the same, block by block', async () => {
    const app = await server();
    const content = await alignedUserText(app, length, { tools: chatTools });
    const payload = {
      max_tokens: 500,
      messages: [{ role: 'user', content }],
      tools,
      temperature: 0,
      stream: true,
    };
    const response = await app.app.inject({ method: 'POST', url: path, payload });
    const events = eventsOf(response.body);
    const types = events.map((event) => event.type);
    assert.deepEqual(
      types.filter((type, index) => type !== types[index - 1]),
      [
        'message_start',
        ...Array(3).fill(['content_block_start', 'content_block_delta', 'content_block_stop']).flat(),
        'message_delta',
        'message_stop',
      ],
    );
    const joined = (index: number, field: string) =>
      events
        .filter((event) => event.index === index)
        .map((event) => event.delta?.[field] ?? '')
        .join('');
    assert.deepEqual(
      [joined(0, 'thinking'), joined(1, 'text'), joined(2, 'partial_json')],
      ['Hm.', 'One moment.', '{"a": 1}'],
    );
    assert.equal(events.at(-2)?.delta?.stop_reason, 'tool_use');
    await app.close();
  });

  test('stop sequences, the limit, and a turn that the client began', async () => {
    const app = await testServer({ says: 'abcdef', thenStops: true });
    const content = await alignedUserText(app, 'abcdef'.length + 1);
    const ask = async (fields: object) =>
      (
        await post(app, path, {
          max_tokens: 50,
          temperature: 0,
          messages: [{ role: 'user', content }],
          ...fields,
        })
      ).body;
    const stopped = await ask({ stop_sequences: ['c'] });
    assert.deepEqual([stopped.stop_reason, stopped.stop_sequence], ['stop_sequence', 'c']);
    assert.equal((await ask({ max_tokens: 2 })).stop_reason, 'max_tokens');
    assert.equal((await ask({})).stop_reason, 'end_turn');
    const begun = [
      { role: 'user', content: 'x' },
      { role: 'assistant', content: 'The answer:' },
    ];
    const count = async (messages: object[]) =>
      (await post(app, `${path}/count_tokens`, { messages })).body.input_tokens;
    const { body } = await post(app, '/tokenize', { messages: begun, continue_final_message: true });
    assert.equal(await count(begun), body.count);
    await app.close();
  });

  test('systems, results of tools and thoughts reach the template', async () => {
    const app = await server();
    const messages = [
      { role: 'user', content: 'Hi' },
      {
        role: 'assistant',
        content: [
          { type: 'thinking', thinking: 'Hm', signature: '' },
          { type: 'tool_use', id: 't1', name: 'add', input: { a: 1 } },
        ],
      },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: 't1', content: [{ type: 'text', text: '2' }] },
          { type: 'text', text: 'So?' },
        ],
      },
    ];
    const counted = await post(app, `${path}/count_tokens`, {
      system: [{ type: 'text', text: 'Be brief' }],
      messages,
    });
    const same = [
      { role: 'system', content: 'Be brief' },
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: '' },
      { role: 'tool', content: '2' },
      { role: 'user', content: 'So?' },
    ];
    assert.equal(counted.body.input_tokens, (await post(app, '/tokenize', { messages: same })).body.count);
    await app.close();
  });

  test('errors are worded as Anthropic’s; its key header is taken', async () => {
    const app = await server({ keys: new ApiKeys(plainKeys(['secret'])) }, 64);
    const ask = async (payload: object, headers: Record<string, string> = { 'x-api-key': 'secret' }) => {
      const response = await app.app.inject({ method: 'POST', url: path, payload, headers });
      const { type, error } = response.json();
      return [response.statusCode, type, error?.type, error?.message];
    };
    const messages = [{ role: 'user', content: 'x' }];
    assert.equal((await ask({ messages, max_tokens: 1 }))[0], 200);
    assert.deepEqual((await ask({ messages, max_tokens: 1 }, {})).slice(0, 3), [
      401,
      'error',
      'authentication_error',
    ]);
    assert.deepEqual((await ask({ messages })).slice(0, 3), [400, 'error', 'invalid_request_error']);
    assert.match(String((await ask({ messages }))[3]), /^max_tokens: is required/);
    assert.equal((await ask({ messages, max_tokens: 4096 }))[0], 200, 'a bound, not a wish');
    const long = [{ role: 'user', content: 'x'.repeat(100) }];
    assert.match(String((await ask({ messages: long, max_tokens: 1 }))[3]), /^prompt is too long: /);
    assert.match(
      String((await ask({ messages, max_tokens: 1, tool_choice: { type: 'any' } }))[3]),
      /tool_choice/,
    );
    const image = [{ role: 'user', content: [{ type: 'image', source: {} }] }];
    assert.match(String((await ask({ messages: image, max_tokens: 1 }))[3]), /'image' are not supported/);
    assert.deepEqual((await ask({ model: 'nope', messages, max_tokens: 1 })).slice(0, 3), [
      404,
      'error',
      'not_found_error',
    ]);
    const nowhere = await app.app.inject({
      method: 'POST',
      url: `${path}/batches`,
      headers: { 'x-api-key': 'secret' },
    });
    assert.deepEqual([nowhere.statusCode, nowhere.json().type], [404, 'error']);
    await app.close();
  });
});
