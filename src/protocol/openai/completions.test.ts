import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { eventsOf, post } from '../../../test/openai/inject.ts';
import { promptOf, type TestServer, testServer } from '../../../test/openai/test-server.ts';

const says = 'Hello, wörld! ';
const prompt = promptOf(says);

describe('completions', () => {
  let server: TestServer;
  before(async () => {
    server = await testServer({ says });
  });
  after(() => server.close());
  const complete = (fields: object) =>
    post(server, '/v1/completions', { model: 'test', prompt, temperature: 0, max_tokens: 8, ...fields });

  test('a whole answer has text, finish reason, usage, id and fingerprint', async () => {
    const { status, body } = await complete({});
    assert.equal(status, 200);
    assert.match(body.id, /^cmpl-[0-9a-f]+$/);
    assert.equal(body.object, 'text_completion');
    assert.match(body.system_fingerprint, /^fp_/);
    assert.deepEqual(body.choices, [
      { index: 0, text: 'Hello, w', logprobs: null, finish_reason: 'length', stop_reason: null },
    ]);
    assert.deepEqual(body.usage, {
      prompt_tokens: prompt.length,
      completion_tokens: 8,
      total_tokens: prompt.length + 8,
      prompt_tokens_details: { cached_tokens: 0 },
    });
  });

  test('the default of max_tokens is 16', async () => {
    const { body } = await complete({ max_tokens: undefined });
    assert.equal(body.usage.completion_tokens, 16);
  });

  test('a stop string ends the text, counts its tokens and is left out unless asked for', async () => {
    const { body } = await complete({ stop: ['rld', 'nowhere'], max_tokens: 100 });
    assert.equal(body.choices[0].text, 'Hello, wö');
    assert.equal(body.choices[0].finish_reason, 'stop');
    assert.equal(body.choices[0].stop_reason, 'rld');
    assert.equal(body.usage.completion_tokens, Buffer.byteLength('Hello, wörld'));
    const included = await complete({ stop: 'rld', max_tokens: 100, include_stop_str_in_output: true });
    assert.equal(included.body.choices[0].text, 'Hello, wörld');
  });

  test('min_tokens puts off stop strings', async () => {
    const { body } = await complete({ stop: 'l', min_tokens: 6, max_tokens: 100 });
    assert.equal(body.choices[0].text, 'Hello, wör');
  });

  test('a stop token id is reported and makes no text', async () => {
    const { body } = await complete({ stop_token_ids: ['w'.charCodeAt(0)], max_tokens: 100 });
    assert.equal(body.choices[0].text, 'Hello, ');
    assert.equal(body.choices[0].finish_reason, 'stop');
    assert.equal(body.choices[0].stop_reason, 'w'.charCodeAt(0));
    assert.equal(body.usage.completion_tokens, 8);
  });

  test('several prompts and several sequences of each', async () => {
    const { body } = await complete({ prompt: [prompt, `${prompt}${prompt}`], n: 2 });
    assert.deepEqual(
      body.choices.map((choice: { index: number }) => choice.index),
      [0, 1, 2, 3],
    );
    assert.ok(body.choices.every((choice: { text: string }) => choice.text === 'Hello, w'));
    assert.equal(body.usage.prompt_tokens, 3 * prompt.length);
    assert.equal(body.usage.completion_tokens, 4 * 8);
  });

  test('token ids as prompts', async () => {
    const ids = [...Buffer.from(prompt)];
    assert.equal((await complete({ prompt: ids })).body.choices[0].text, 'Hello, w');
    assert.equal((await complete({ prompt: [ids, ids] })).body.choices.length, 2);
  });

  test('echo repeats the prompt', async () => {
    const { body } = await complete({ echo: true });
    assert.equal(body.choices[0].text, `${prompt}Hello, w`);
    const only = await complete({ echo: true, max_tokens: 0 });
    assert.equal(only.body.choices[0].text, prompt);
    assert.equal(only.body.usage.completion_tokens, 0);
  });

  test('logprobs in the legacy format, with offsets in the text', async () => {
    const { body } = await complete({ logprobs: 2, max_tokens: 10 });
    const { tokens, token_logprobs, top_logprobs, text_offset } = body.choices[0].logprobs;
    assert.deepEqual(tokens.slice(0, 3), ['H', 'e', 'l']);
    assert.deepEqual(tokens.slice(8), ['bytes:\\xc3', 'bytes:\\xb6']);
    assert.ok(token_logprobs.every((value: number) => value <= 0));
    assert.equal(Object.keys(top_logprobs[0]).length, 2);
    assert.deepEqual(text_offset, [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]);
  });

  test('echo with logprobs has the prompt’s, whole and streamed', async () => {
    const fields = { prompt: 'xyz', echo: true, logprobs: 1, max_tokens: 0 };
    const { body } = await complete(fields);
    const { tokens, token_logprobs, text_offset } = body.choices[0].logprobs;
    assert.deepEqual(tokens, ['x', 'y', 'z']);
    assert.equal(token_logprobs[0], null);
    assert.ok(token_logprobs.slice(1).every((value: number) => value < 0));
    assert.deepEqual(text_offset, [0, 1, 2]);
    const payload = { ...fields, stream: true };
    const response = await server.app.inject({ method: 'POST', url: '/v1/completions', payload });
    const [first] = eventsOf(response.body) as {
      choices: { text: string; logprobs: { tokens: string[] } }[];
    }[];
    assert.deepEqual([first?.choices[0]?.text, first?.choices[0]?.logprobs.tokens], ['xyz', tokens]);
  });

  test('best_of returns the likeliest, and cannot be streamed', async () => {
    const { body } = await complete({ best_of: 4, n: 2, temperature: 1, seed: 1 });
    assert.equal(body.choices.length, 2);
    assert.equal(body.usage.completion_tokens, 4 * 8);
    assert.equal((await complete({ best_of: 4, stream: true })).status, 400);
  });

  test('return_token_ids', async () => {
    const { body } = await complete({ return_token_ids: true, max_tokens: 2 });
    assert.deepEqual(body.choices[0].token_ids, [...Buffer.from('He')]);
    assert.deepEqual(body.choices[0].prompt_token_ids, [...Buffer.from(prompt)]);
  });

  test('a stream has one event a token, then the usage where asked for, then [DONE]', async () => {
    const payload = {
      prompt,
      temperature: 0,
      max_tokens: 4,
      stream: true,
      stream_options: { include_usage: true },
    };
    const response = await server.app.inject({ method: 'POST', url: '/v1/completions', payload });
    assert.equal(response.headers['content-type'], 'text/event-stream; charset=utf-8');
    assert.equal(response.headers['cache-control'], 'no-cache');
    const events = eventsOf(response.body) as { choices: { text: string; finish_reason: string }[] }[];
    assert.deepEqual(
      events.slice(0, 4).map((event) => event.choices[0]?.text),
      ['H', 'e', 'l', 'l'],
    );
    assert.equal(events[3]?.choices[0]?.finish_reason, 'length');
    const usage = events[4] as unknown as { choices: []; usage: { completion_tokens: number } };
    assert.deepEqual(usage.choices, []);
    assert.equal(usage.usage.completion_tokens, 4);
    assert.equal(events[5] as unknown, '[DONE]');
    assert.equal(events.length, 6);
  });
});
