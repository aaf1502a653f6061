import assert from 'node:assert/strict';
import { test } from 'node:test';
import { skipWithout } from '../../test/support/shared.ts';
import { sharedTokenizerFiles } from '../../test/support/tokenizers.ts';
import { type ChatInput, chatTemplateLengthMax, renderChat } from './chat-template.ts';
import { TokenizerError } from './errors.ts';
import { JsonTokenizer } from './json-tokenizer.ts';

const chatMl =
  "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}" +
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}';
const input: ChatInput = { messages: [{ role: 'user', content: 'Hi' }], addGenerationPrompt: true };

function assertRefused(code: string, message: RegExp, run: () => unknown): void {
  assert.throws(
    run,
    (error) => error instanceof TokenizerError && error.code === code && message.test(error.message),
  );
}

test('a chat is rendered with and without the start of an answer', () => {
  assert.equal(renderChat(chatMl, input), '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n');
  assert.equal(
    renderChat(chatMl, { ...input, addGenerationPrompt: false }),
    '<|im_start|>user\nHi<|im_end|>\n',
  );
});

test('text parts are joined; other parts and messages without a role are refused', () => {
  const parts = [
    { type: 'text', text: 'Hi ' },
    { type: 'text', text: 'you' },
  ];
  const rendered = renderChat(chatMl, { ...input, messages: [{ role: 'user', content: parts }] });
  assert.equal(rendered, '<|im_start|>user\nHi you<|im_end|>\n<|im_start|>assistant\n');
  const image = { messages: [{ role: 'user', content: [{ type: 'image_url' }] }], addGenerationPrompt: true };
  assertRefused('CHAT_MESSAGE_INVALID', /messages\[0\].*'image_url'/, () => renderChat(chatMl, image));
  assertRefused('CHAT_MESSAGE_INVALID', /no role/, () =>
    renderChat(chatMl, { ...input, messages: [{ role: '' }] }),
  );
  assertRefused('CHAT_MESSAGE_INVALID', /empty/, () => renderChat(chatMl, { ...input, messages: [] }));
});

test('tools, special tokens and extra variables reach the template, and extra cannot replace messages', () => {
  const template =
    '{{ bos_token }}{{ tools | tojson }}{{ enable_thinking }}{{ messages | length }}{{ eos_token }}';
  const rendered = renderChat(template, {
    ...input,
    tools: [{ name: 'f' }],
    bosToken: '<s>',
    eosToken: '</s>',
    extra: { enable_thinking: false, messages: [] },
  });
  assert.equal(rendered, '<s>[{"name": "f"}]false1</s>');
});

test("a template's own refusal, a broken template and a missing one are told apart", () => {
  const rejecting = "{{ raise_exception('roles must alternate') }}";
  assertRefused('CHAT_TEMPLATE_REJECTED', /roles must alternate/, () => renderChat(rejecting, input));
  assertRefused('CHAT_TEMPLATE_INVALID', /does not parse/, () => renderChat('{% for %}', input));
  assertRefused('CHAT_TEMPLATE_INVALID', /over/, () =>
    renderChat('x'.repeat(chatTemplateLengthMax + 1), input),
  );
  assertRefused('CHAT_TEMPLATE_MISSING', /no chat template/, () => renderChat(undefined, input));
});

test('a hostile template ends with an error, not with the process', () => {
  const outer = '{% for a in range(100000000) %}{% for b in range(100000000) %}x{% endfor %}{% endfor %}';
  assertRefused('CHAT_TEMPLATE_REJECTED', /took more than/, () => renderChat(outer, input));
  const doubling = `{% set ns = namespace(s='x') %}{% for a in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}`;
  assert.throws(() => renderChat(doubling, input), TokenizerError);
  const reaching = "{{ messages.constructor.constructor('return process')() }}";
  assertRefused('CHAT_TEMPLATE_REJECTED', /./, () => renderChat(reaching, input));
});

test('the real templates of Qwen3 and Llama 3 render chats with tools', {
  skip: skipWithout('models/tokenizers'),
}, () => {
  const qwen = new JsonTokenizer(sharedTokenizerFiles('qwen3'));
  const tools = [{ type: 'function', function: { name: 'now', description: 'the time', parameters: {} } }];
  const text = renderChat(qwen.chatTemplate, { ...input, tools, extra: { enable_thinking: false } });
  assert.match(text, /"name": "now"/);
  assert.ok(text.endsWith('<|im_start|>assistant\n<think>\n\n</think>\n\n'));
  const llama = new JsonTokenizer(sharedTokenizerFiles('llama3'));
  const chat = renderChat(llama.chatTemplate, { ...input, bosToken: '<|begin_of_text|>' });
  const ids = llama.encode(chat, { addSpecialTokens: false });
  assert.equal(ids[0], llama.bosTokenId);
  assert.match(chat, /<\|start_header_id\|>assistant<\|end_header_id\|>\n\n$/);
});
