import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import OpenAI from 'openai';
import { alignedUserText } from '../../../test/openai/aligned.ts';
import { post } from '../../../test/openai/inject.ts';
import { type TestServer, testServer } from '../../../test/openai/test-server.ts';
import { ManualClock } from '../../base/clock.ts';
import { ApiKeys, plainKeys } from '../authentication.ts';
import { format as think } from '../reasoning/think.ts';
import { format as hermes } from '../tool-parsers/hermes.ts';
import { ResponseStore, storedBytesMax, storedResponsesMax, storedResponseTtlMs } from './store.ts';

const reply =
  '<think>\nHm.\n</think>\n\nOne moment.<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>';
const length = reply.length + 1;
const tools = [
  { type: 'function', name: 'add', parameters: {}, strict: null },
] as OpenAI.Responses.FunctionTool[];
const chatTools = [{ type: 'function', function: { name: 'add', parameters: {} } }];

/** Closed after a failure too: an open port would keep the test process. */
const open: TestServer[] = [];
after(() => Promise.all(open.map((server) => server.close())));

async function listening(options = {}): Promise<{ server: TestServer; client: OpenAI }> {
  const model = { formats: { tools: hermes, reasoning: think } };
  const server = await testServer({ says: reply, thenStops: true, model }, options);
  open.push(server);
  const { url } = await server.listen();
  return { server, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'secret', maxRetries: 0 }) };
}

describe('/v1/responses through the official client', () => {
  test('reasoning, text and a call are items; usage counts the reasoning', async () => {
    const { server, client } = await listening();
    const input = await alignedUserText(server, length, { tools: chatTools });
    const response = await client.responses.create({ model: 'test', input, tools, temperature: 0 });
    assert.deepEqual(
      response.output.map((item) => item.type),
      ['reasoning', 'message', 'function_call'],
    );
    assert.equal(response.output_text, 'One moment.');
    const call = response.output[2] as OpenAI.Responses.ResponseFunctionToolCall;
    assert.deepEqual([call.name, call.arguments, call.status], ['add', '{"a": 1}', 'completed']);
    assert.match(call.call_id, /^call_/);
    assert.equal(response.status, 'completed');
    assert.equal(response.usage?.output_tokens, length);
    const { reasoning_tokens: reasoned } = response.usage!.output_tokens_details;
    assert.ok(reasoned >= 3 && reasoned < 25, `${reasoned}`);
  });

  test('a stream: the client puts the same response together, and every event has its number', async () => {
    const { server, client } = await listening();
    const input = await alignedUserText(server, length, { tools: chatTools });
    const stream = client.responses.stream({ model: 'test', input, tools, temperature: 0 });
    const types: string[] = [];
    const numbers: number[] = [];
    for await (const event of stream) {
      types.push(event.type);
      numbers.push(event.sequence_number);
    }
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => index),
    );
    const seen = types.filter((type, index) => type !== types[index - 1]);
    assert.deepEqual(seen, [
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.reasoning_text.delta',
      'response.reasoning_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.output_item.added',
      'response.function_call_arguments.delta',
      'response.function_call_arguments.done',
      'response.output_item.done',
      'response.completed',
    ]);
    const final = await stream.finalResponse();
    assert.equal(final.output_text, 'One moment.');
  });

  test('cut off at max_output_tokens: incomplete, with the reason', async () => {
    const { client } = await listening();
    const response = await client.responses.create({ model: 'test', input: 'x', max_output_tokens: 3 });
    assert.deepEqual(
      [response.status, response.incomplete_details?.reason],
      ['incomplete', 'max_output_tokens'],
    );
  });

  test('previous_response_id goes on with the whole conversation; ids are the key’s own', async () => {
    const { client } = await listening({ keys: new ApiKeys(plainKeys(['secret', 'other'])) });
    const other = new OpenAI({ baseURL: client.baseURL, apiKey: 'other', maxRetries: 0 });
    const first = await client.responses.create({
      model: 'test',
      input: 'Hello there',
      instructions: 'Be brief.',
    });
    const fields = { model: 'test', input: 'And now?', previous_response_id: first.id };
    const second = await client.responses.create(fields);
    const alone = await client.responses.create({ model: 'test', input: 'And now?', store: false });
    assert.ok(second.usage!.input_tokens > alone.usage!.input_tokens + 'Hello there'.length);
    await assert.rejects(other.responses.create(fields), (error: InstanceType<typeof OpenAI.APIError>) => {
      assert.deepEqual(
        [error.status, error.code, error.param],
        [400, 'previous_response_not_found', 'previous_response_id'],
      );
      return true;
    });
    await assert.rejects(client.responses.retrieve(alone.id), { status: 404 });
    assert.equal((await client.responses.retrieve(second.id)).id, second.id);
    const items = await client.responses.inputItems.list(second.id);
    assert.equal(items.data.length, 1);
    await client.responses.delete(second.id);
    await assert.rejects(client.responses.retrieve(second.id), { status: 404 });
  });

  test('items of a tool’s call and result reach the template as one turn and a tool message', async () => {
    const { server } = await listening();
    const input = [
      { role: 'user', content: [{ type: 'input_text', text: 'Hi' }] },
      { type: 'reasoning', summary: [], content: [{ type: 'reasoning_text', text: 'Hm' }] },
      { type: 'function_call', call_id: 'c1', name: 'add', arguments: '{"a":1}' },
      { type: 'function_call_output', call_id: 'c1', output: '2' },
    ];
    const { status, body } = await post(server, '/v1/responses', { input, max_output_tokens: 1 });
    assert.equal(status, 200);
    const messages = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: '' },
      { role: 'tool', content: '2', tool_call_id: 'c1' },
    ];
    const { count } = (await post(server, '/tokenize', { messages })).body;
    assert.equal(body.usage.input_tokens, count);
  });

  test('what cannot be honoured is refused by name', async () => {
    const { server } = await listening();
    const cases: [object, string, string][] = [
      [{ input: 'x', background: true }, 'background', 'unsupported_parameter'],
      [{ input: 'x', tools: [{ type: 'web_search' }] }, 'tools[0]', 'unsupported_parameter'],
      [{ input: 'x', tool_choice: 'required' }, 'tool_choice', 'invalid_value'],
      [{ input: 'x', text: { format: { type: 'yaml' } } }, 'text.format', 'unsupported_parameter'],
      [{ input: [{ type: 'file_search_call' }] }, 'input[0]', 'unsupported_parameter'],
      [
        { input: [{ role: 'user', content: [{ type: 'input_image' }] }] },
        'input[0].content[0]',
        'unsupported_parameter',
      ],
      [{ input: 'x', top_logprobs: 2 }, 'top_logprobs', 'unsupported_parameter'],
      [{}, 'input', 'invalid_value'],
      [
        { input: [{ type: 'function_call', call_id: 'c', name: 'f', arguments: '{' }] },
        'input[0].arguments',
        'invalid_value',
      ],
      [{ input: 'x'.repeat(3000) }, 'input', 'context_length_exceeded'],
    ];
    for (const [payload, parameter, code] of cases) {
      const { status, body } = await post(server, '/v1/responses', payload);
      assert.deepEqual(
        [status, body.error?.param, body.error?.code],
        [400, parameter, code],
        JSON.stringify(body),
      );
    }
  });
});

describe('stored responses', () => {
  const stored = (id: string, text = '') => ({
    response: { id },
    input: [],
    conversation: [{ role: 'user' as const, content: text }],
    owner: 'me',
  });

  test('are forgotten by age, count and size, oldest first', () => {
    const clock = new ManualClock();
    const store = new ResponseStore(clock);
    store.put(stored('old'));
    clock.advanceMs(storedResponseTtlMs + 1);
    assert.equal(store.get('old', 'me'), undefined);
    for (let i = 0; i <= storedResponsesMax; i++) store.put(stored(`r${i}`));
    assert.equal(store.size, storedResponsesMax);
    assert.equal(store.get('r0', 'me'), undefined);
    assert.ok(store.get('r1', 'me'));
    const large = 'x'.repeat(storedBytesMax / 4);
    store.put(stored('large-1', large));
    store.put(stored('large-2', large));
    assert.ok(store.size < 3 && store.get('large-2', 'me') !== undefined);
    store.put(stored('too-large', 'x'.repeat(storedBytesMax / 2)));
    assert.equal(store.get('too-large', 'me'), undefined);
  });

  test('are found and deleted by their owner alone', () => {
    const store = new ResponseStore(new ManualClock());
    store.put(stored('a'));
    assert.equal(store.get('a', 'you'), undefined);
    assert.equal(store.delete('a', 'you'), false);
    assert.equal(store.delete('a', 'me'), true);
    assert.equal(store.size, 0);
  });
});
