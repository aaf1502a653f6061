import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import OpenAI from 'openai';
import { format as hermes } from '../../src/protocol/tool-parsers/hermes.ts';
import { bytesTensor, tensorOf, textsOf } from '../../src/repository/tensor.ts';
import { eventsOf, post } from '../openai/inject.ts';
import { assertPerson, person } from '../openai/person.ts';
import { type TestServer, testServer } from '../openai/test-server.ts';
import { type EngineModels, engineModels } from '../repository/engine-models.ts';
import { inferAll } from '../repository/model-folder.ts';

/** Guided answers through every protocol, from an engine that says tokens by chance: whatever comes out keeps to the guide, or was cut off. */
const servers: TestServer[] = [];
let kserve: EngineModels | undefined;
after(async () => {
  await Promise.all([...servers.map((server) => server.close()), kserve?.close()]);
});

async function opened(): Promise<TestServer> {
  const server = await testServer({ model: { formats: { tools: hermes } } });
  servers.push(server);
  return server;
}

describe('the Responses API', () => {
  test('text.format: a schema, whole and streamed; json_object', async () => {
    const server = await opened();
    const { url } = await server.listen();
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
    const format = { type: 'json_schema', name: 'person', strict: true, schema: person } as const;
    const asked = { model: 'test', input: 'who?', max_output_tokens: 300, text: { format } };
    const whole = await client.responses.create(asked);
    assert.deepEqual(whole.text?.format, format);
    assertPerson(JSON.parse(whole.output_text));
    let text = '';
    let deltas = 0;
    for await (const event of await client.responses.create({ ...asked, stream: true })) {
      if (event.type !== 'response.output_text.delta') continue;
      text += event.delta;
      deltas++;
    }
    assertPerson(JSON.parse(text));
    assert.ok(deltas > 3, 'it came as it was made');
    const parsed = await client.responses.parse(asked);
    assertPerson(parsed.output_parsed);
    const any = await client.responses.create({ ...asked, text: { format: { type: 'json_object' } } });
    if (any.status === 'completed') assert.equal(typeof JSON.parse(any.output_text), 'object');
    const tools = [
      { type: 'function', name: 'save', parameters: person, strict: true },
    ] as OpenAI.Responses.Tool[];
    const forced = await client.responses.create({ ...asked, text: {}, tools, tool_choice: 'required' });
    const calls = forced.output.filter((item) => item.type === 'function_call');
    assert.ok(calls.length > 0);
    for (const call of calls) if (forced.status === 'completed') assertPerson(JSON.parse(call.arguments));
  });
});

describe('the Messages API', () => {
  const tools = [
    { name: 'save', input_schema: person },
    {
      name: 'drop',
      input_schema: { type: 'object', properties: { id: { type: 'integer' } }, required: ['id'] },
    },
  ];
  const asked = { model: 'test', max_tokens: 400, messages: [{ role: 'user', content: 'go' }], tools };

  test('tool_choice any and tool, one call or several, streamed', async () => {
    const server = await opened();
    const ask = (fields: object) => post(server, '/v1/messages', { ...asked, ...fields });
    const one = { type: 'tool', name: 'save', disable_parallel_tool_use: true };
    const named = await ask({ tool_choice: one });
    assert.equal(named.status, 200, JSON.stringify(named.body));
    assert.deepEqual([named.body.stop_reason, named.body.content.length], ['tool_use', 1]);
    assert.equal(named.body.content[0].name, 'save');
    assertPerson(named.body.content[0].input);
    const { body } = await ask({ tool_choice: { type: 'any' } });
    assert.ok(body.content.length > 0);
    for (const { type, name, input } of body.content) {
      assert.equal(type, 'tool_use');
      if (body.stop_reason === 'max_tokens') continue;
      if (name === 'save') assertPerson(input);
      else assert.ok(Number.isInteger(input.id), JSON.stringify(input));
    }
    const payload = { ...asked, tool_choice: one, stream: true };
    const streamed = await server.app.inject({ method: 'POST', url: '/v1/messages', payload });
    const pieces = [...streamed.body.matchAll(/"partial_json":("(?:[^"\\]|\\.)*")/g)].map(([, piece]) =>
      JSON.parse(piece as string),
    );
    assert.ok(pieces.length > 3, 'arguments come as they are made');
    assertPerson(JSON.parse(pieces.join('')));
  });

  test('output_config.format', async () => {
    const server = await opened();
    const output_config = { format: { type: 'json_schema', schema: person } };
    const { body } = await post(server, '/v1/messages', { ...asked, tools: [], output_config });
    assertPerson(JSON.parse(body.content[0].text));
  });
});

describe('chats', () => {
  const chats = '/v1/chat/completions';
  const messages = [{ role: 'user', content: 'go' }];
  const strict = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: person } };
  const tools = [{ type: 'function', function: { name: 'save', strict: true, parameters: person } }];

  test('a stop string ends a guided text where it stands', async () => {
    const server = await opened();
    const asked = { messages, response_format: strict, max_tokens: 300, seed: 3 };
    const whole = (await post(server, chats, asked)).body.choices[0].message.content as string;
    const { body } = await post(server, chats, { ...asked, stop: ['"age"'] });
    assert.deepEqual(
      [body.choices[0].message.content, body.choices[0].finish_reason],
      [whole.slice(0, whole.indexOf('"age"')), 'stop'],
    );
  });

  test('forced calls are streamed as their arguments are made, several beside each other', async () => {
    const server = await opened();
    const payload = { messages, tools, tool_choice: 'required', stream: true, max_tokens: 600, n: 4 };
    let several = 0;
    for (let seed = 0; seed < 12 && several === 0; seed++) {
      const response = await server.app.inject({ method: 'POST', url: chats, payload: { ...payload, seed } });
      const calls = new Map<string, string[]>();
      const finishes = new Map<number, string>();
      for (const event of eventsOf(response.body)) {
        const [choice] = (event as OpenAI.ChatCompletionChunk).choices ?? [];
        if (choice?.finish_reason) finishes.set(choice.index, choice.finish_reason);
        for (const call of choice?.delta.tool_calls ?? []) {
          const key = `${choice?.index}/${call.index}`;
          calls.set(key, [...(calls.get(key) ?? []), call.function?.arguments ?? '']);
        }
      }
      for (const [key, pieces] of calls) {
        if (finishes.get(Number.parseInt(key, 10)) === 'length') continue;
        assert.ok(
          pieces.filter((piece) => piece !== '').length > 3,
          `${key} came in ${pieces.length} pieces`,
        );
        assertPerson(JSON.parse(pieces.join('')));
      }
      several = [...calls.keys()].filter((key) => key.endsWith('/1')).length;
    }
    assert.ok(several > 0, 'some answer has two calls');
  });

  test('log-probabilities of a guided text are those of the model: one a token, the likeliest beside it', async () => {
    const server = await opened();
    const asked = {
      messages,
      response_format: strict,
      max_tokens: 300,
      seed: 5,
      logprobs: true,
      top_logprobs: 3,
    };
    const { body } = await post(server, chats, asked);
    const [{ message, logprobs }] = body.choices;
    assertPerson(JSON.parse(message.content));
    assert.equal(logprobs.content.map(({ token }: { token: string }) => token).join(''), message.content);
    for (const { logprob, top_logprobs: top } of logprobs.content) {
      assert.ok(top.length === 3 && logprob <= top[0].logprob, 'nothing is likelier than the likeliest');
    }
  });
});

describe('KServe', () => {
  const text = (name: string, value: string) => bytesTensor(name, [1, 1], [value]);
  const guides: [type: string, guide: string | undefined, check: (said: string) => void][] = [
    ['json_schema', JSON.stringify(person), (said) => assertPerson(JSON.parse(said))],
    ['regex', '[a-c]{3}-\\d', (said) => assert.match(said, /^[a-c]{3}-\d$/)],
    ['ebnf_grammar', 'root ::= "yes" | "no"', (said) => assert.match(said, /^(yes|no)$/)],
    ['json', undefined, (said) => assert.match(said, /^\{/)],
  ];

  for (const name of ['ensemble', 'tensorrt_llm_bls', 'tensorrt_llm']) {
    test(`${name}: every guided_decoding_guide_type`, async () => {
      kserve ??= await engineModels();
      for (const [type, guide, check] of guides) {
        const isCore = name === 'tensorrt_llm';
        const inputs = isCore
          ? [
              tensorOf('input_ids', 'INT32', [1, 2], Int32Array.of(104, 105)),
              tensorOf('input_lengths', 'INT32', [1, 1], Int32Array.of(2)),
              tensorOf('request_output_len', 'INT32', [1, 1], Int32Array.of(200)),
              tensorOf('end_id', 'INT32', [1, 1], Int32Array.of(256)),
            ]
          : [text('text_input', 'hi'), tensorOf('max_tokens', 'INT32', [1, 1], Int32Array.of(200))];
        inputs.push(text('guided_decoding_guide_type', type));
        if (guide !== undefined) inputs.push(text('guided_decoding_guide', guide));
        const [answer] = await inferAll(kserve.repository.model(name), { inputs });
        const found = answer?.outputs.find(
          (tensor) => tensor.name === (isCore ? 'output_ids' : 'text_output'),
        );
        assert.ok(found, `${name} ${type}`);
        if (!isCore) check(textsOf(found)[0] as string);
        else {
          const ids = new Int32Array(found.data.slice().buffer);
          check(Buffer.from([...ids].filter((id) => id >= 0 && id < 256)).toString());
        }
      }
    });
  }
});
