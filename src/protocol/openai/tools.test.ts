import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { alignedUserText } from '../../../test/openai/aligned.ts';
import { byteTokenizer } from '../../../test/openai/byte-tokenizer.ts';
import { eventsOf, post } from '../../../test/openai/inject.ts';
import { type TestServer, testServer } from '../../../test/openai/test-server.ts';
import { format as think } from '../reasoning/think.ts';
import type { RequestLogger } from '../request-log.ts';
import { format as hermes } from '../tool-parsers/hermes.ts';

const reply =
  '<think>\nHm.\n</think>\n\nOne moment.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "sub", "arguments": {}}\n</tool_call>';
const tools = ['add', 'sub'].map((name) => ({ type: 'function', function: { name, parameters: {} } }));

async function server(options: { logger?: RequestLogger; template?: boolean } = {}): Promise<TestServer> {
  const chatTemplate = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:';
  const model = { formats: { tools: hermes, reasoning: think } };
  return testServer(
    {
      says: reply,
      thenStops: true,
      tokenizer: byteTokenizer(),
      model: options.template === false ? { ...model, chatTemplate } : model,
    },
    options.logger ? { logger: options.logger } : {},
  );
}

const length = reply.length + 1;

interface Delta {
  content?: string;
  reasoning_content?: string;
  reasoning?: string;
  tool_calls?: {
    index: number;
    id?: string;
    type?: string;
    function: { name?: string; arguments: string };
  }[];
}

describe('tools and reasoning', () => {
  test('calls and reasoning are told apart from the text, whole', async () => {
    const app = await server();
    const content = await alignedUserText(app, length, { tools });
    const messages = [{ role: 'user', content }];
    const { body } = await post(app, '/v1/chat/completions', { messages, tools, temperature: 0 });
    const [choice] = body.choices;
    assert.equal(choice.finish_reason, 'tool_calls');
    assert.deepEqual(
      [choice.message.content, choice.message.reasoning_content, choice.message.reasoning],
      ['One moment.', 'Hm.', 'Hm.'],
    );
    assert.deepEqual(
      choice.message.tool_calls.map((call: { type: string; function: object }) => [call.type, call.function]),
      [
        ['function', { name: 'add', arguments: '{"a": 1}' }],
        ['function', { name: 'sub', arguments: '{}' }],
      ],
    );
    const ids = choice.message.tool_calls.map((call: { id: string }) => call.id);
    assert.equal(new Set(ids).size, 2);
    assert.match(ids[0], /^call_/);
    const one = { messages, tools, temperature: 0, parallel_tool_calls: false, include_reasoning: false };
    const { message } = (await post(app, '/v1/chat/completions', one)).body.choices[0];
    assert.equal(message.tool_calls.length, 1);
    assert.ok(!('reasoning' in message));
    await app.close();
  });

  test('calls and reasoning are told apart from the text, streamed', async () => {
    const app = await server();
    const content = await alignedUserText(app, length, { tools });
    const messages = [{ role: 'user', content }];
    const payload = { messages, tools, temperature: 0, stream: true, logprobs: true };
    const response = await app.app.inject({ method: 'POST', url: '/v1/chat/completions', payload });
    const chunks = eventsOf(response.body).slice(0, -1) as {
      choices: { delta: Delta; finish_reason: string | null; logprobs: { content: object[] } | null }[];
    }[];
    const choices = chunks.map((chunk) => chunk.choices[0]!);
    const deltas = choices.map((choice) => choice.delta);
    assert.equal(deltas.map((delta) => delta.content ?? '').join(''), 'One moment.');
    assert.equal(deltas.map((delta) => delta.reasoning_content ?? '').join(''), 'Hm.');
    const calls = deltas.flatMap((delta) => delta.tool_calls ?? []);
    const written = (index: number) =>
      calls
        .filter((call) => call.index === index)
        .map((call) => call.function.arguments)
        .join('');
    assert.deepEqual([written(0), written(1)], ['{"a": 1}', '{}']);
    assert.deepEqual(
      calls.filter((call) => call.id).map((call) => call.function.name),
      ['add', 'sub'],
    );
    assert.equal(choices.at(-1)?.finish_reason, 'tool_calls');
    assert.equal(choices.filter((choice) => choice.finish_reason).length, 1);
    // Every token's log-probability is in some event.
    const logprobs = choices.flatMap((choice) => choice.logprobs?.content ?? []);
    assert.equal(logprobs.length, reply.length);
    await app.close();
  });

  test('without tools, or with tool_choice none, calls are text', async () => {
    const app = await server();
    for (const fields of [{}, { tools, tool_choice: 'none' }]) {
      const content = await alignedUserText(app, length);
      const payload = { messages: [{ role: 'user', content }], temperature: 0, ...fields };
      const { body } = await post(app, '/v1/chat/completions', payload);
      assert.equal(body.choices[0].finish_reason, 'stop');
      assert.match(body.choices[0].message.content, /<tool_call>/);
    }
    await app.close();
  });

  test('a template without tools: described in the prompt where the format is known, else left out with a warning', async () => {
    const lines: Record<string, unknown>[] = [];
    const log = (fields: object) => void lines.push(fields as Record<string, unknown>);
    const app = await server({ template: false });
    const payload = { messages: [{ role: 'user', content: 'x' }], tools };
    const plain = (await post(app, '/tokenize', { messages: payload.messages })).body.count;
    const described = (await post(app, '/tokenize', payload)).body.count;
    assert.ok(described > plain + JSON.stringify(tools).length - 10);
    await app.close();
    const chatTemplate = '{% for m in messages %}{{ m.content }}{% endfor %}';
    const deaf = await testServer(
      { model: { chatTemplate } },
      { logger: { info: log, warn: log, error: log } },
    );
    const { status } = await post(deaf, '/v1/chat/completions', { ...payload, max_tokens: 1 });
    assert.equal(status, 200);
    assert.match(String(lines[0]?.warning), /takes no tools.*--tool-call-parser/);
    await deaf.close();
  });
});
