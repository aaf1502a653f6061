import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { byteTokenizer, byteVocabularySize } from '../../../test/openai/byte-tokenizer.ts';
import { post } from '../../../test/openai/inject.ts';
import { promptOf, testServer } from '../../../test/openai/test-server.ts';
import { gapTokensOf } from './fill-in-middle.ts';

const user = { role: 'user', content: 'Hi' };

describe('vLLM’s fields', () => {
  test('continue_final_message leaves the last message open; it excludes add_generation_prompt', async () => {
    const server = await testServer();
    const messages = [user, { role: 'assistant', content: 'The answer is ' }];
    const tokens = async (fields: object) => (await post(server, '/tokenize', { messages, ...fields })).body;
    const open = await tokens({ continue_final_message: true });
    const text = Buffer.from(open.tokens.filter((id: number) => id < 256)).toString();
    assert.ok(text.endsWith('The answer is '), text);
    const both = await tokens({ continue_final_message: true, add_generation_prompt: true });
    assert.equal(both.error.param, 'continue_final_message');
    const fields = { messages, continue_final_message: true, echo: true, max_tokens: 1 };
    const { body } = await post(server, '/v1/chat/completions', fields);
    assert.ok(body.choices[0].message.content.startsWith('The answer is '));
    const empty = { messages: [user, { role: 'assistant', content: ' ' }], continue_final_message: true };
    assert.equal((await post(server, '/v1/chat/completions', empty)).status, 400);
    await server.close();
  });

  test('chat_template is taken where the server trusts it, and refused by name elsewhere', async () => {
    const payload = { messages: [user], chat_template: '<{{ messages[0].content }}>' };
    const server = await testServer();
    const refused = (await post(server, '/v1/chat/completions', payload)).body.error;
    assert.deepEqual([refused.param, refused.code], ['chat_template', 'unsupported_parameter']);
    assert.match(refused.message, /--trust-request-chat-template/);
    await server.close();
    const trusting = await testServer({}, { trustRequestChatTemplate: true });
    const { body } = await post(trusting, '/tokenize', payload);
    assert.deepEqual(body.tokens, [...Buffer.from('<Hi>')]);
    await trusting.close();
  });

  test('prompt_logprobs: an entry a token, none for the first, by id', async () => {
    const server = await testServer();
    const { body } = await post(server, '/v1/completions', {
      prompt: 'abc',
      prompt_logprobs: 2,
      max_tokens: 1,
    });
    const list = body.choices[0].prompt_logprobs;
    assert.equal(list.length, 3);
    assert.equal(list[0], null);
    const own = list[1][String('b'.charCodeAt(0))];
    assert.equal(own.decoded_token, 'b');
    assert.ok(own.logprob <= 0 && (own.rank === null || own.rank >= 1));
    assert.ok(Object.keys(list[1]).length >= 2);
    const chat = await post(server, '/v1/chat/completions', {
      messages: [user],
      prompt_logprobs: 0,
      max_tokens: 1,
    });
    assert.equal(chat.body.prompt_logprobs.length, chat.body.usage.prompt_tokens);
    const streamed = await post(server, '/v1/completions', {
      prompt: 'abc',
      prompt_logprobs: 2,
      stream: true,
    });
    assert.deepEqual([streamed.status, streamed.body.error.param], [400, 'prompt_logprobs']);
    await server.close();
  });

  test('truncate_prompt_tokens keeps the end of the prompt; -1 what the context can hold', async () => {
    const server = await testServer({ contextLength: 32 });
    const ask = async (fields: object) =>
      (await post(server, '/v1/completions', { echo: true, ...fields })).body;
    const cut = await ask({ prompt: 'abcdef', truncate_prompt_tokens: 2, max_tokens: 1 });
    assert.equal(cut.usage.prompt_tokens, 2);
    assert.ok(cut.choices[0].text.startsWith('ef'));
    const fitted = await ask({ prompt: 'x'.repeat(100), truncate_prompt_tokens: -1, max_tokens: 10 });
    assert.deepEqual([fitted.usage.prompt_tokens, fitted.usage.completion_tokens], [22, 10]);
    assert.equal(
      (await ask({ prompt: 'x', truncate_prompt_tokens: 0 })).error.param,
      'truncate_prompt_tokens',
    );
    await server.close();
  });

  test('bans: allowed tokens, words of several tokens, n-grams, a top-p that decays', async () => {
    const says = 'abcdabcd';
    const server = await testServer({ says });
    const ask = async (fields: object) => {
      const payload = { prompt: promptOf(says), max_tokens: 16, temperature: 0, ...fields };
      return (await post(server, '/v1/completions', payload)).body;
    };
    const textOf = async (fields: object) => (await ask(fields)).choices[0].text;
    assert.equal(await textOf({}), 'abcdabcdabcdabcd');
    const word = await textOf({ bad_words: ['bc', ' q'] });
    assert.match(word, /^ab[^c]/);
    assert.ok(!word.includes('bc'), word);
    const some = { allowed_token_ids: ['b', 'c', 'e'].map((letter) => letter.charCodeAt(0)) };
    assert.match(await textOf(some), /^[bce]{16}$/);
    const once = await textOf({ no_repeat_ngram_size: 3 });
    const threes = Array.from({ length: 14 }, (_, at) => once.slice(at, at + 3));
    assert.equal(new Set(threes).size, threes.length, once);
    const drawn = { temperature: 1.5, seed: 5, top_p: 0.99, max_tokens: 40 };
    const narrow = { ...drawn, top_p_decay: 0.5, top_p_min: 0.001 };
    assert.notEqual(await textOf(drawn), await textOf(narrow));
    assert.equal((await textOf(narrow)).slice(12), says.repeat(5).slice(12, 40));
    const refused: [object, string][] = [
      [{ allowed_token_ids: [] }, 'allowed_token_ids'],
      [{ allowed_token_ids: [99_999] }, 'allowed_token_ids'],
      [{ bad_words: [' '] }, 'bad_words'],
      [{ bad_words: new Array(513).fill('x') }, 'bad_words'],
      [{ no_repeat_ngram_size: 65 }, 'no_repeat_ngram_size'],
      [{ top_p_decay: 0 }, 'top_p_decay'],
      [{ top_p_decay: 0.5, top_p_reset_ids: 99_999 }, 'top_p_reset_ids'],
    ];
    for (const [fields, parameter] of refused) assert.equal((await ask(fields)).error?.param, parameter);
    await server.close();
  });

  test('suffix: the text around a gap, where the model has tokens for it', async () => {
    const plain = await testServer();
    const payload = { prompt: 'ab', suffix: 'yz', max_tokens: 1, return_token_ids: true };
    const { error } = (await post(plain, '/v1/completions', payload)).body;
    assert.deepEqual([error.param, error.code], ['suffix', 'unsupported_parameter']);
    await plain.close();
    const moreTokens = ['<|fim_prefix|>', '<|fim_suffix|>', '<|fim_middle|>', '<|fim_pad|>'];
    const server = await testServer({ tokenizer: byteTokenizer({ moreTokens }), says: 'q' });
    const id = byteVocabularySize;
    const bytes = (text: string) => [...Buffer.from(text)];
    const expected = [id, ...bytes('ab'), id + 1, ...bytes('yz'), id + 2];
    const { body } = await post(server, '/v1/completions', payload);
    assert.deepEqual(body.choices[0].prompt_token_ids, expected);
    const ids = await post(server, '/v1/completions', { ...payload, prompt: bytes('ab') });
    assert.deepEqual(ids.body.choices[0].prompt_token_ids, expected);
    // Text that looks like such a token is text.
    const forged = await post(server, '/v1/completions', { ...payload, suffix: '<|fim_middle|>' });
    assert.equal(forged.body.usage.prompt_tokens, 3 + 2 + '<|fim_middle|>'.length);
    const both = await post(server, '/v1/completions', { ...payload, echo: true });
    assert.equal(both.body.error.param, 'echo');
    assert.deepEqual(gapTokensOf(server.model).ends, [id + 3]);
    await server.close();
  });
});
