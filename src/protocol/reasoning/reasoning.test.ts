import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addPart, type WholeParts } from '../answer-parts.ts';
import { reasoningFormatOf, reasoningFormats } from './registry.ts';

async function read(prompt: string, pieces: readonly string[]): Promise<WholeParts> {
  const { format } = await reasoningFormats.load('think');
  const parser = format.createParser(prompt);
  const whole: WholeParts = { text: '', reasoning: '', calls: [] };
  for (const part of [...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()])
    addPart(whole, part);
  return whole;
}

const cases: [what: string, prompt: string, answer: string, reasoning: string, text: string][] = [
  [
    'its own tags',
    'user: hi',
    '<think>\nLet me see.\n\nYes.\n</think>\n\nHello!',
    'Let me see.\n\nYes.',
    'Hello!',
  ],
  ['begun by the prompt', 'assistant: <think>\n', 'Hmm.</think>Hello', 'Hmm.', 'Hello'],
  ['closed by the prompt', '<think>\n\n</think>\n\n', 'Hello </think>', '', 'Hello </think>'],
  ['none', 'user: hi', 'Hello <b>', '', 'Hello <b>'],
  ['cut off', 'user: hi', '<think>Hmm', 'Hmm', ''],
  ['a beginning only', 'user: hi', '<thi', '', '<thi'],
];

for (const [what, prompt, answer, reasoning, text] of cases) {
  test(`reasoning: ${what}`, async () => {
    for (let cut = 0; cut <= answer.length; cut++) {
      const whole = await read(prompt, [answer.slice(0, cut), answer.slice(cut)]);
      assert.deepEqual([whole.reasoning, whole.text], [reasoning, text], `cut at ${cut}`);
    }
    assert.equal((await read(prompt, [...answer])).reasoning, reasoning);
  });
}

test('a template that closes a reasoning shows the format', () => {
  assert.equal(reasoningFormatOf("{{ '</think>' }}"), 'think');
  assert.equal(reasoningFormatOf('{{ messages }}'), undefined);
});
