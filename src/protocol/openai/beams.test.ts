import assert from 'node:assert/strict';
import { test } from 'node:test';
import { post } from '../../../test/openai/inject.ts';
import { testServer } from '../../../test/openai/test-server.ts';

const fields = { prompt: 'abc', max_tokens: 6, temperature: 0, ignore_eos: true };

test('use_beam_search: the best texts of so many beams, best first, and never worse than the greedy one', async () => {
  const server = await testServer();
  const complete = async (more: object) =>
    (await post(server, '/v1/completions', { ...fields, logprobs: 0, ...more })).body;
  const { choices } = await complete({ use_beam_search: true, n: 4 });
  assert.deepEqual(
    choices.map(({ index }: { index: number }) => index),
    [0, 1, 2, 3],
  );
  assert.equal(new Set(choices.map(({ text }: { text: string }) => text)).size, 4, 'four different texts');
  const sumOf = (choice: { logprobs: { token_logprobs: number[] } }) =>
    choice.logprobs.token_logprobs.reduce((sum, logprob) => sum + logprob, 0);
  const sums = choices.map(sumOf);
  assert.deepEqual(
    sums,
    sums.toSorted((a: number, b: number) => b - a),
    'all are as long, so ranked by their sum',
  );
  const greedy = await complete({});
  assert.ok(sums[0] >= sumOf(greedy.choices[0]) - 1e-6);
  const best = await complete({ use_beam_search: true, best_of: 4, n: 1 });
  assert.deepEqual(best.choices[0].text, choices[0].text);
  assert.equal(best.choices.length, 1);
  await server.close();
});

test('beams stream their texts at the end; fields of a beam search without one are refused by name', async () => {
  const server = await testServer();
  const messages = [{ role: 'user', content: 'Hi' }];
  const chat = {
    messages,
    max_tokens: 5,
    ignore_eos: true,
    use_beam_search: true,
    n: 2,
    length_penalty: 0.5,
  };
  const { body, status } = await post(server, '/v1/chat/completions', chat);
  assert.equal(status, 200);
  assert.equal(body.choices.length, 2);
  assert.equal(body.usage.completion_tokens, 10);
  for (const lonely of [{ length_penalty: 2 }, { early_stopping: true }]) {
    const refused = await post(server, '/v1/completions', { ...fields, ...lonely });
    assert.deepEqual([refused.status, refused.body.error.param], [400, Object.keys(lonely)[0]]);
  }
  const wide = await post(server, '/v1/completions', { ...fields, use_beam_search: true, n: 65 });
  assert.equal(wide.status, 400);
  await server.close();
});
