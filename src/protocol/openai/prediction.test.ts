import assert from 'node:assert/strict';
import { test } from 'node:test';
import { post } from '../../../test/openai/inject.ts';
import { testServer } from '../../../test/openai/test-server.ts';

const messages = [{ role: 'user', content: 'Hi' }];
const fields = { messages, max_tokens: 40, temperature: 0, ignore_eos: true };

test('a prediction changes no text, and its tokens are counted', async () => {
  const server = await testServer({ says: 'abcdefghij' });
  const plain = (await post(server, '/v1/chat/completions', fields)).body;
  assert.equal(plain.usage.completion_tokens_details, undefined);
  const { content } = plain.choices[0].message;
  const prediction = { type: 'content', content: [{ type: 'text', text: content }] };
  const { body } = await post(server, '/v1/chat/completions', { ...fields, prediction });
  assert.equal(body.choices[0].message.content, content);
  const details = body.usage.completion_tokens_details;
  assert.ok(details.accepted_prediction_tokens > 0, JSON.stringify(details));
  assert.ok(details.rejected_prediction_tokens >= 0);
  const wrong = { type: 'content', content: 'nothing of that' };
  const other = (await post(server, '/v1/chat/completions', { ...fields, prediction: wrong })).body;
  assert.equal(other.choices[0].message.content, content);
  await server.close();
});

test('a prediction that is none is refused by name', async () => {
  const server = await testServer();
  const { status, body } = await post(server, '/v1/chat/completions', {
    ...fields,
    prediction: { type: 'x' },
  });
  assert.equal(status, 400);
  assert.match(body.error.param, /^prediction/);
  const { body: refused } = await post(server, '/v1/completions', {
    prompt: 'Hi',
    prediction: { type: 'content', content: 'a' },
  });
  assert.equal(refused.error.param, 'prediction');
  await server.close();
});

test('a request says itself how its tokens are guessed, under vLLM’s names', async (t) => {
  const server = await testServer({ says: 'abcdefghij' });
  t.after(() => server.close());
  const ask = async (more: object) =>
    (await post(server, '/v1/chat/completions', { ...fields, ...more })).body;
  const plain = await ask({});
  const looked = await ask({ prompt_lookup_max: 3, prompt_lookup_min: 2, num_speculative_tokens: 4 });
  assert.equal(looked.choices[0].message.content, plain.choices[0].message.content);
  assert.ok(looked.usage.completion_tokens_details.accepted_prediction_tokens > 0);
  const none = await ask({ prompt_lookup_max: 3, num_speculative_tokens: 0 });
  assert.equal(none.usage.completion_tokens_details, undefined);
  const [long, crossed] = [
    await ask({ num_speculative_tokens: 33 }),
    await ask({ prompt_lookup_max: 1, prompt_lookup_min: 2 }),
  ];
  assert.equal(long.error.param, 'num_speculative_tokens');
  assert.match(crossed.error.message, /prompt_lookup_min 2 is over prompt_lookup_max 1/);
});
