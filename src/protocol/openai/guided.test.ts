import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { eventsOf, post } from '../../../test/openai/inject.ts';
import { assertPerson, person } from '../../../test/openai/person.ts';
import { type TestServer, testServer } from '../../../test/openai/test-server.ts';
import { format as think } from '../reasoning/think.ts';
import { toolFormats } from '../tool-parsers/registry.ts';

const strictPerson = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: person } };
const tools = [
  { type: 'function', function: { name: 'save', strict: true, parameters: person } },
  {
    type: 'function',
    function: { name: 'stop', parameters: { type: 'object', properties: {}, additionalProperties: false } },
  },
];
const messages = [{ role: 'user', content: 'hi' }];
const chats = '/v1/chat/completions';

async function withServer<T>(use: (server: TestServer) => Promise<T>, formats = {}): Promise<T> {
  const server = await testServer({ model: { formats } });
  try {
    return await use(server);
  } finally {
    await server.close();
  }
}

function assertPersonText(text: string): void {
  assertPerson(JSON.parse(text));
}

describe('guided answers', () => {
  test('JSON of a schema, drawn and greedy, several choices, with penalties and log-probabilities', async () => {
    await withServer(async (server) => {
      const base = { messages, response_format: strictPerson, max_tokens: 400, n: 3, seed: 5 };
      for (const fields of [
        { temperature: 0 },
        { temperature: 1 },
        { temperature: 1, top_p: 0.9, frequency_penalty: 0.5, logprobs: true, top_logprobs: 2 },
      ]) {
        const { status, body } = await post(server, chats, { ...base, ...fields });
        assert.equal(status, 200, JSON.stringify(body));
        for (const { message, finish_reason } of body.choices) {
          assert.equal(finish_reason, 'stop');
          assertPersonText(message.content);
        }
      }
    });
  });

  test('every field that says what an answer must look like', async () => {
    await withServer(async (server) => {
      const json = (text: string) => assert.equal(typeof JSON.parse(text), 'object');
      const cases: [fields: object, check: (text: string) => void][] = [
        [{ response_format: { type: 'json_object' }, max_tokens: 60 }, json],
        [{ guided_json: person }, assertPersonText],
        [{ guided_json: JSON.stringify(person) }, assertPersonText],
        [{ guided_regex: '[a-c]{3}-\\d+' }, (text) => assert.match(text, /^[a-c]{3}-\d+$/)],
        [{ guided_choice: ['yes', 'yellow', 'no'] }, (text) => assert.match(text, /^(yes|yellow|no)$/)],
        [{ guided_grammar: 'root ::= "a" [0-9] "b"' }, (text) => assert.match(text, /^a\db$/)],
        [
          { structured_outputs: { json: person, disable_any_whitespace: true } },
          (text) => assert.ok(!/":\s/.test(text)),
        ],
        [{ structured_outputs: { choice: ['x', 'y'] } }, (text) => assert.match(text, /^[xy]$/)],
        [
          {
            response_format: {
              type: 'structural_tag',
              format: {
                type: 'tag',
                begin: '<a>',
                content: { type: 'json_schema', json_schema: person },
                end: '</a>',
              },
            },
          },
          (text) => assertPersonText(text.slice(3, -4)),
        ],
      ];
      for (const [fields, check] of cases) {
        for (const url of [chats, '/v1/completions']) {
          const { status, body } = await post(server, url, {
            messages,
            prompt: 'hi',
            max_tokens: 120,
            seed: 1,
            ...fields,
            ...(url === chats ? { prompt: undefined } : { messages: undefined }),
          });
          assert.equal(status, 200, JSON.stringify([fields, body]));
          const [choice] = body.choices;
          if (choice.finish_reason === 'stop') check(choice.text ?? choice.message.content);
        }
      }
    });
  });

  test('what no grammar can hold is a 400 that says where', async () => {
    await withServer(async (server) => {
      const format = (schema: unknown, strict = true) => ({
        response_format: { type: 'json_schema', json_schema: { name: 'x', strict, schema } },
      });
      const cases: [fields: object, param: string, message: RegExp][] = [
        [format({ type: 'strin' }), 'response_format', /there is no type 'strin'/],
        [
          format({ type: 'object', properties: { a: { $ref: '#/x' } } }),
          'response_format',
          /at .properties.a.*not there/,
        ],
        [format({ type: 'array', uniqueItems: true }), 'response_format', /uniqueItems/],
        [{ guided_regex: '(a' }, 'guided_regex', /without its '\)'/],
        [{ guided_regex: '(?=a)b' }, 'guided_regex', /lookaround/],
        [{ guided_regex: '((a{1,99}){1,99}){1,99}' }, 'guided_regex', /at most 100000/],
        [{ guided_json: '{' }, 'guided_json', /not valid JSON/],
        [{ guided_choice: [] }, 'guided_choice', /needs texts/],
        [{ guided_json: person, guided_regex: 'a' }, 'guided_regex', /send one/],
      ];
      for (const [fields, param, message] of cases) {
        const { status, body } = await post(server, chats, { messages, ...fields });
        assert.deepEqual([status, body.error.param], [400, param], JSON.stringify(body));
        assert.match(body.error.message, message);
      }
      const lenient = await post(server, chats, {
        messages,
        max_tokens: 5,
        ...format({ type: 'array', uniqueItems: true }, false),
      });
      assert.equal(lenient.status, 200);
      const broken = await post(server, chats, { messages, guided_grammar: 'root ::= x', stream: true });
      assert.deepEqual(
        [broken.status, broken.body.error.code],
        [400, 'grammar_invalid'],
        JSON.stringify(broken.body),
      );
    });
  });

  test('a stream of guided deltas ends as a whole answer does', async () => {
    await withServer(async (server) => {
      const payload = { messages, response_format: strictPerson, stream: true, max_tokens: 300, seed: 3 };
      const response = await server.app.inject({ method: 'POST', url: chats, payload });
      const chunks = eventsOf(response.body) as {
        choices: { delta: { content?: string }; finish_reason?: string }[];
      }[];
      assertPersonText(chunks.map((chunk) => chunk.choices?.[0]?.delta.content ?? '').join(''));
    });
  });
});

describe('forced calls', () => {
  for (const name of ['hermes', 'llama3_json', 'pythonic', 'mistral', 'deepseek_v3', 'qwen3_coder']) {
    test(`${name}: required, named, several or one`, async () => {
      const { format } = await toolFormats.load(name);
      await withServer(
        async (server) => {
          const ask = (fields: object) =>
            post(server, chats, { messages, tools, max_tokens: 400, seed: 2, ...fields });
          const named = await ask({ tool_choice: { type: 'function', function: { name: 'save' } } });
          assert.equal(named.status, 200, JSON.stringify(named.body));
          const [call, ...others] = named.body.choices[0].message.tool_calls ?? [];
          assert.deepEqual([call?.function.name, others.length], ['save', 0], JSON.stringify(named.body));
          assertPersonText(call.function.arguments);
          const required = await ask({ tool_choice: 'required', parallel_tool_calls: false, n: 2 });
          for (const { message, finish_reason } of required.body.choices) {
            if (finish_reason === 'length') continue;
            assert.equal(message.tool_calls?.length, 1, JSON.stringify(message));
            if (message.tool_calls[0].function.name === 'save')
              assertPersonText(message.tool_calls[0].function.arguments);
            else assert.equal(message.tool_calls[0].function.arguments.replace(/\s/g, ''), '{}');
          }
        },
        { tools: format },
      );
    });
  }

  test('the grammar begins behind the reasoning, be it begun, to begin or over', async () => {
    for (const template of ['', '<think>\n', '<think>\n</think>\n']) {
      const chatTemplate = `{% for m in messages %}{{ m.content }}{% endfor %}${template}`;
      const server = await testServer({ model: { chatTemplate, formats: { reasoning: think } } });
      try {
        const { body } = await post(server, chats, {
          messages,
          response_format: strictPerson,
          max_tokens: 300,
          seed: 4,
        });
        const [{ message, finish_reason }] = body.choices;
        if (finish_reason === 'stop') assertPersonText(message.content);
        if (template === '<think>\n') assert.ok(message.reasoning_content.length > 0);
      } finally {
        await server.close();
      }
    }
  });

  test('a tool that is not there cannot be forced', async () => {
    await withServer(async (server) => {
      const { status, body } = await post(server, chats, {
        messages,
        tools,
        tool_choice: { type: 'function', function: { name: 'other' } },
      });
      assert.deepEqual([status, body.error.param], [400, 'tool_choice']);
    });
  });
});
