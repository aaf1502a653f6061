import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  bytesOf,
  byteTokenizer,
  endOfTextId,
  turnEndId,
  turnStartId,
} from '../../../test/openai/byte-tokenizer.ts';
import { eventsOf, post } from '../../../test/openai/inject.ts';
import { promptOf, testServer } from '../../../test/openai/test-server.ts';
import { CompletionLogprobsBuilder, chatLogprobs } from './logprobs.ts';

const tokenizer = byteTokenizer();
const start = '<|im_start|>';

function offsetsOf(prompt: number[], text: string, output: number[], skipSpecialTokens: boolean): number[] {
  const builder = new CompletionLogprobsBuilder(tokenizer, 0, skipSpecialTokens);
  return [...builder.buildEchoed(prompt, [], text).text_offset, ...builder.build(output, []).text_offset];
}

test('special tokens of an echoed text have their length', () => {
  const prompt = [turnStartId, ...bytesOf('hé'), turnEndId];
  const text = `${start}hé<|im_end|>`;
  assert.deepEqual(offsetsOf(prompt, text, bytesOf('x'), true), [0, 12, 13, 13, 14, text.length]);
});

test('a BOS that was added has no length, even in front of one in the text', () => {
  const name = '<|endoftext|>';
  assert.deepEqual(offsetsOf([endOfTextId, ...bytesOf('ab')], 'ab', [67], true), [0, 0, 1, 2]);
  assert.deepEqual(offsetsOf([endOfTextId, endOfTextId, 65], `${name}A`, [67], true), [0, 0, 13, 14]);
  assert.deepEqual(offsetsOf([endOfTextId, endOfTextId, 65], `${name}${name}A`, [67], true), [0, 13, 26, 27]);
});

test('generated special tokens have a length where the text keeps them', () => {
  assert.deepEqual(offsetsOf([65], 'A', [66, turnStartId, 67], true), [0, 1, 2, 2]);
  assert.deepEqual(offsetsOf([65], 'A', [66, turnStartId, 67], false), [0, 1, 2, 14]);
});

test('what follows an echoed text begins at its end, whatever its tokens decode to', () => {
  assert.deepEqual(offsetsOf(bytesOf('abcd'), 'ab', [67], true), [0, 1, 2, 2, 2]);
  assert.deepEqual(offsetsOf(bytesOf('é').slice(0, 1), '\ufffd', [67], true), [0, 1]);
});

test('offsets count code points, not UTF-16 units', () => {
  const ids = [...bytesOf('a🙂'), ...bytesOf('b')];
  assert.deepEqual(offsetsOf(ids, 'a🙂b', bytesOf('🙂c'), true), [0, 1, 1, 1, 1, 2, 3, 3, 3, 3, 4]);
});

test('the chosen token has the same log-probability in both places', () => {
  const entry = { logprob: -0.1, top: { tokens: Int32Array.of(65), logprobs: Float32Array.of(-0.1) } };
  const [chat] = chatLogprobs(tokenizer, [65], [entry], 1);
  assert.equal(chat?.logprob, chat?.top_logprobs[0]?.logprob);
  const lists = new CompletionLogprobsBuilder(tokenizer, 1, true).build([65], [entry]);
  assert.equal(lists.token_logprobs[0], lists.top_logprobs[0]?.A);
});

test('echo of a prompt with special tokens: text and offsets agree, whole and streamed', async () => {
  const server = await testServer({ says: 'abc' });
  const text = `${start}${promptOf('ab')}`;
  const fields = { model: 'test', echo: true, logprobs: 0, max_tokens: 2, temperature: 0 };
  const payload = { ...fields, prompt: text };
  const { body } = await post(server, '/v1/completions', payload);
  assert.equal(body.choices[0].text, `${text}ab`);
  assert.deepEqual(body.choices[0].logprobs.text_offset, [0, 12, 13, 14, 15]);
  const response = await server.app.inject({
    method: 'POST',
    url: '/v1/completions',
    payload: { ...payload, stream: true },
  });
  const events = eventsOf(response.body) as { choices: { logprobs: { text_offset: number[] } | null }[] }[];
  assert.deepEqual(
    events.flatMap((event) => event.choices?.[0]?.logprobs?.text_offset ?? []),
    [0, 12, 13, 14, 15],
  );
  const ids = [turnStartId, ...bytesOf('..')];
  for (const [skip, first] of [
    [true, ''],
    [false, start],
  ] as const) {
    const answer = await post(server, '/v1/completions', {
      ...fields,
      prompt: ids,
      skip_special_tokens: skip,
    });
    const { text: whole, logprobs } = answer.body.choices[0];
    assert.equal(whole, `${first}..ab`);
    const at = first.length;
    assert.deepEqual(logprobs.text_offset, [0, at, at + 1, at + 2, at + 3]);
  }
  await server.close();
});
