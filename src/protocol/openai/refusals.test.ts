import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { post } from '../../../test/openai/inject.ts';
import { type TestServer, testServer } from '../../../test/openai/test-server.ts';
import { promptBytesMax } from '../../base/limits.ts';

const says = 'Hello, wörld! ';

describe('refusals', () => {
  let server: TestServer;
  before(async () => {
    server = await testServer({ says, contextLength: 64 });
  });
  after(() => server.close());
  const user = [{ role: 'user', content: 'x' }];
  const refused: [string, string, object, number, string | null, string][] = [
    ['no messages', 'chat/completions', {}, 400, 'messages', 'invalid_value'],
    ['empty messages', 'chat/completions', { messages: [] }, 400, 'messages', 'invalid_value'],
    [
      'an unknown role',
      'chat/completions',
      { messages: [{ role: 'x', content: '' }] },
      400,
      'messages[0].role',
      'invalid_value',
    ],
    [
      'no content',
      'chat/completions',
      { messages: [{ role: 'user' }] },
      400,
      'messages[0].content',
      'invalid_value',
    ],
    [
      'an image',
      'chat/completions',
      { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      400,
      'messages[0].content[0]',
      'unsupported_parameter',
    ],
    [
      'a hot temperature',
      'chat/completions',
      { messages: user, temperature: 2.1 },
      400,
      'temperature',
      'invalid_value',
    ],
    [
      'an infinite temperature',
      'chat/completions',
      { messages: user, temperature: '1e999' },
      400,
      'temperature',
      'invalid_value',
    ],
    ['top_p 0', 'chat/completions', { messages: user, top_p: 0 }, 400, 'top_p', 'invalid_value'],
    ['n 0', 'chat/completions', { messages: user, n: 0 }, 400, 'n', 'invalid_value'],
    ['n over the limit', 'chat/completions', { messages: user, n: 129 }, 400, 'n', 'invalid_value'],
    ['an empty stop', 'chat/completions', { messages: user, stop: '' }, 400, 'stop', 'invalid_value'],
    [
      'too many stops',
      'chat/completions',
      { messages: user, stop: Array(17).fill('x') },
      400,
      'stop',
      'invalid_value',
    ],
    [
      'top_logprobs alone',
      'chat/completions',
      { messages: user, top_logprobs: 2 },
      400,
      'top_logprobs',
      'invalid_value',
    ],
    [
      'top_logprobs over 20',
      'chat/completions',
      { messages: user, logprobs: true, top_logprobs: 21 },
      400,
      'top_logprobs',
      'invalid_value',
    ],
    [
      'a JSON mode',
      'chat/completions',
      { messages: user, response_format: { type: 'yaml' } },
      400,
      'response_format',
      'unsupported_parameter',
    ],
    [
      'audio',
      'chat/completions',
      { messages: user, modalities: ['text', 'audio'] },
      400,
      'modalities',
      'unsupported_parameter',
    ],
    [
      'functions',
      'chat/completions',
      { messages: user, functions: [{}] },
      400,
      'functions',
      'unsupported_parameter',
    ],
    [
      'stream_options alone',
      'chat/completions',
      { messages: user, stream_options: {} },
      400,
      'stream_options',
      'invalid_value',
    ],
    [
      'a bias outside the vocabulary',
      'chat/completions',
      { messages: user, logit_bias: { 259: 1 } },
      400,
      'logit_bias',
      'invalid_value',
    ],
    [
      'a bias over 100',
      'chat/completions',
      { messages: user, logit_bias: { 1: 101 } },
      400,
      'logit_bias.1',
      'invalid_value',
    ],
    [
      'broken tool arguments',
      'chat/completions',
      {
        messages: [...user, { role: 'assistant', tool_calls: [{ function: { name: 'f', arguments: '{' } }] }],
      },
      400,
      'messages[1].tool_calls[0].function.arguments',
      'invalid_value',
    ],
    [
      'an unknown model',
      'chat/completions',
      { model: 'nope', messages: user },
      404,
      'model',
      'model_not_found',
    ],
    ['a suffix', 'completions', { prompt: 'x', suffix: 'y' }, 400, 'suffix', 'unsupported_parameter'],
    ['no prompt', 'completions', {}, 400, 'prompt', 'invalid_value'],
    ['an empty prompt list', 'completions', { prompt: [] }, 400, 'prompt', 'invalid_value'],
    ['an empty prompt', 'completions', { prompt: '' }, 400, 'prompt', 'invalid_value'],
    ['a negative id', 'completions', { prompt: [-1] }, 400, 'prompt', 'invalid_value'],
    ['an id outside the vocabulary', 'completions', { prompt: [259] }, 400, 'prompt', 'invalid_value'],
    ['too many prompts', 'completions', { prompt: Array(513).fill('x') }, 400, 'prompt', 'invalid_value'],
    [
      'too many completions',
      'completions',
      { prompt: Array(512).fill('x'), n: 3 },
      400,
      'prompt',
      'invalid_value',
    ],
    [
      'max_tokens 0 without echo',
      'completions',
      { prompt: 'x', max_tokens: 0 },
      400,
      'max_tokens',
      'invalid_value',
    ],
    [
      'min over max tokens',
      'completions',
      { prompt: 'x', min_tokens: 17 },
      400,
      'min_tokens',
      'invalid_value',
    ],
    ['best_of under n', 'completions', { prompt: 'x', n: 2, best_of: 1 }, 400, 'best_of', 'invalid_value'],
    [
      'a prompt over the context',
      'completions',
      { prompt: 'x'.repeat(64) },
      400,
      'prompt',
      'context_length_exceeded',
    ],
    [
      'max_tokens over the context',
      'completions',
      { prompt: 'x', max_tokens: 64 },
      400,
      'max_tokens',
      'context_length_exceeded',
    ],
  ];
  for (const [name, path, payload, status, param, code] of refused) {
    test(`${name}: ${status}`, async () => {
      const answer = await post(server, `/v1/${path}`, payload);
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      const { error } = answer.body;
      assert.deepEqual([error.param, error.code], [param, code], error.message);
      assert.ok(error.message.length > 10 && error.type.endsWith('_error'));
    });
  }

  test('limits of counts and lengths', async () => {
    const tool = { type: 'function', function: { name: 'f' } };
    const over: [string, object][] = [
      ['messages', { messages: Array(2_049).fill(user[0]) }],
      ['tools', { messages: user, tools: Array(513).fill(tool) }],
      ['reasoning_effort', { messages: user, reasoning_effort: 'x'.repeat(1025) }],
      ['cache_salt', { messages: user, cache_salt: 'x'.repeat(1025) }],
      ['stop_token_ids', { messages: user, stop_token_ids: Array(1025).fill(1) }],
      [
        'logit_bias',
        { messages: user, logit_bias: Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [i, 1])) },
      ],
    ];
    for (const [parameter, payload] of over) {
      const { status, body } = await post(server, '/v1/chat/completions', payload);
      assert.deepEqual([status, body.error.param], [400, parameter]);
    }
    const stops = await post(server, '/v1/chat/completions', { messages: user, stop: Array(17).fill('x') });
    assert.equal(stops.body.error.message, 'stop: must have at most 16 entries');
    const long = await post(server, '/v1/chat/completions', { messages: user, stop: 'é'.repeat(513) });
    assert.deepEqual([long.status, long.body.error.code], [400, 'stop_string_invalid']);
  });

  test('harmless values of unsupported fields, null and unknown fields are let through', async () => {
    const fields = {
      store: true,
      service_tier: 'flex',
      verbosity: 'low',
      kv_transfer_params: {},
      mm_processor_kwargs: {},
      tools: [],
      tool_choice: 'none',
      suffix: null,
      best_of: 1,
      n: null,
      frobnicate: 7,
      user: 'u',
    };
    const { status } = await post(server, '/v1/completions', { prompt: 'x', max_tokens: 1, ...fields });
    assert.equal(status, 200);
  });

  test('bodies: broken JSON, invalid UTF-8, empty, deep, not an object, wrong type, too large', async () => {
    const send = async (payload: string | Buffer, type = 'application/json') => {
      const url = '/v1/completions';
      const response = await server.app.inject({
        method: 'POST',
        url,
        payload,
        headers: { 'content-type': type },
      });
      return [response.statusCode, response.json().error.code];
    };
    assert.deepEqual(await send('{"prompt": "x"'), [400, 'body_invalid']);
    assert.deepEqual(await send(Buffer.from([0x7b, 0xff, 0x7d])), [400, 'body_invalid']);
    assert.deepEqual(await send(''), [400, 'body_invalid']);
    assert.deepEqual(await send(`{"prompt":"x","tools":${'['.repeat(200)}${']'.repeat(200)}}`), [
      400,
      'body_invalid',
    ]);
    assert.deepEqual(await send('[1]'), [400, 'invalid_value']);
    assert.deepEqual(await send('"x"'), [400, 'invalid_value']);
    assert.deepEqual(await send('prompt=x', 'application/x-www-form-urlencoded'), [
      415,
      'content_type_unsupported',
    ]);
    const small = await testServer({}, { limits: { bodyBytesMax: 1000 } });
    const response = await small.app.inject({
      method: 'POST',
      url: '/v1/completions',
      payload: { prompt: 'x'.repeat(1000) },
    });
    assert.deepEqual([response.statusCode, response.json().error.code], [413, 'body_too_large']);
    assert.match(response.json().error.message, /1000 bytes/);
    await small.close();
  });

  test('messages are ours, not the schema library’s', async () => {
    const messages: [object, string][] = [
      [{ messages: user, temperature: 'x' }, 'temperature: must be a number'],
      [{ messages: user, temperature: 3 }, 'temperature: must be at most 2'],
      [{ messages: user, n: 1.5 }, 'n: must be an integer'],
      [{ messages: user, stream: 1 }, 'stream: must be true or false'],
      [{}, 'messages: is required'],
      [{ messages: 'x' }, 'messages: must be an array'],
      [{ messages: [] }, 'messages: must have at least 1 entries'],
      [{ messages: [{ role: 'x', content: '' }] }, "messages[0].role: must be one of 'system'"],
      [{ messages: user, logit_bias: { a: 1 } }, 'logit_bias.a: keys are token ids'],
      [{ messages: user, stop: [''] }, 'stop[0]: must not be empty'],
      [{ messages: user, stop: 5 }, 'stop: must be a string or an array of strings'],
    ];
    for (const [payload, expected] of messages) {
      const { body } = await post(server, '/v1/chat/completions', payload);
      assert.ok(body.error.message.startsWith(expected), body.error.message);
      assert.doesNotMatch(body.error.message, /Invalid|expected|received/);
    }
  });

  test('an overflow of the context is worded as OpenAI words it, so that clients know it', async () => {
    const overflow = /^This model's maximum context length is 64 tokens\. However, .*context_length_exceeded/;
    for (const payload of [{ prompt: 'x'.repeat(64) }, { prompt: 'x', max_tokens: 64 }]) {
      const { body } = await post(server, '/v1/completions', payload);
      assert.match(body.error.message, overflow);
    }
    // Too long for a template to write.
    const messages = [{ role: 'user', content: 'x'.repeat(promptBytesMax + 1) }];
    const { status, body } = await post(server, '/v1/chat/completions', { messages });
    assert.deepEqual([status, body.error.code], [400, 'context_length_exceeded']);
    assert.match(body.error.message, overflow);
  });

  test('bodies of very many values are refused before they cost memory', async () => {
    const many = 300_000;
    const bodies: [string, string, number, string][] = [
      ['chat/completions', `{"messages":[${'0,'.repeat(many)}0]}`, 400, 'body_invalid'],
      [
        'chat/completions',
        `{"messages":[{"role":"user","content":[${'0,'.repeat(many)}0]}]}`,
        400,
        'body_invalid',
      ],
      ['completions', `{"prompt":[${'[],'.repeat(many)}[]]}`, 400, 'body_invalid'],
      ['completions', `{"prompt":[${'"\\"",'.repeat(many)}""]}`, 400, 'body_invalid'],
      ['completions', `{${'"k":0,'.repeat(many)}"prompt":"x"}`, 400, 'body_invalid'],
      ['completions', `{"prompt":[${'1,'.repeat(many)}1]}`, 400, 'context_length_exceeded'],
      ['completions', `{"prompt":[${'-1,'.repeat(many)}1]}`, 400, 'invalid_value'],
      ['completions', `{"prompt":"${'[{'.repeat(20)}${'\\"'.repeat(5)}","max_tokens":1}`, 200, ''],
    ];
    for (const [path, payload, status, code] of bodies) {
      const headers = { 'content-type': 'application/json' };
      const response = await server.app.inject({ method: 'POST', url: `/v1/${path}`, payload, headers });
      assert.deepEqual(
        [response.statusCode, response.json().error?.code ?? ''],
        [status, code],
        payload.slice(0, 40),
      );
    }
  });

  test('an answer of too many log-probabilities is given up and cancelled', async () => {
    const large = await testServer({ says, contextLength: 4096, slots: 128 });
    const fields = { prompt: 'x', n: 128, max_tokens: 4000, logprobs: 20, ignore_eos: true };
    const { status, body } = await post(large, '/v1/completions', fields);
    assert.deepEqual([status, body.error.code, body.error.param], [400, 'answer_too_large', 'logprobs']);
    assert.ok(large.engine.statistics().generatedTokens < 128 * 4000);
    await large.close();
  });

  test('unknown routes and wrong methods', async () => {
    const get = async (url: string) => {
      const response = await server.app.inject({ method: 'GET', url });
      return [response.statusCode, response.json().error.code, response.headers.allow];
    };
    assert.deepEqual(await get('/v1/nothing'), [404, 'route_not_found', undefined]);
    assert.deepEqual(await get('/v1/completions'), [405, 'method_not_allowed', 'POST']);
    assert.deepEqual((await get('/%zz'))[0], 400);
  });

  test('a model without a template answers no chats and says what to do', async () => {
    const { byteTokenizer } = await import('../../../test/openai/byte-tokenizer.ts');
    const base = await testServer({ says, tokenizer: byteTokenizer({ withTemplate: false }) });
    const { status, body } = await post(base, '/v1/chat/completions', { messages: user });
    assert.equal(status, 400);
    assert.match(body.error.message, /v1\/completions/);
    await base.close();
  });
});
