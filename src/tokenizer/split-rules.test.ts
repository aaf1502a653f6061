import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { TokenizerError } from './errors.ts';
import { normalizeInParts } from './mark-runs.ts';
import { translatedPreTokenizer } from './split-rules.ts';
import type { Component } from './tokenizer-json.ts';

function pieces(part: Component, text: string): string[] {
  const model = { type: 'BPE', vocab: {}, merges: [] };
  const parts = { normalizer: null, post_processor: null, decoder: null, added_tokens: [], model };
  const library = new Library({ ...parts, pre_tokenizer: translatedPreTokenizer(part) }, {});
  return library.pre_tokenizer!.pre_tokenize_text(text).filter((piece: string) => piece.length > 0);
}

const split = (Regex: string, behavior: string, invert = false): Component => ({
  type: 'Split',
  pattern: { Regex },
  behavior,
  invert,
});

// Expected pieces as native `tokenizers` 0.23 cuts them.
const cases: [string, Component, string, string[]][] = [
  ['Isolated', split(' ', 'Isolated'), 'a  b', ['a', ' ', ' ', 'b']],
  ['Contiguous', split(' ', 'Contiguous'), 'a  b', ['a', '  ', 'b']],
  ['Removed', split(' ', 'Removed'), 'a  b', ['a', 'b']],
  ['Removed, inverted', split('[ab]', 'Removed', true), 'ab c', ['a', 'b']],
  ['MergedWithPrevious', split(' ', 'MergedWithPrevious'), 'a  b c', ['a ', ' ', 'b ', 'c']],
  ['MergedWithNext', split(' ', 'MergedWithNext'), 'a  b c', ['a', ' ', ' b', ' c']],
  [
    'a string pattern',
    { type: 'Split', pattern: { String: 'a-[.' }, behavior: 'Isolated' },
    'xa-[.y',
    ['x', 'a-[.', 'y'],
  ],
  ['Digits are of any script', { type: 'Digits', individual_digits: false }, 'a1٢b', ['a', '1٢', 'b']],
  ['Metaspace cuts before words', { type: 'Metaspace' }, 'a  b', ['▁a', '▁', '▁b']],
  ['Metaspace without cuts', { type: 'Metaspace', split: false }, 'a  b', ['▁a▁▁b']],
  ['individual Digits', { type: 'Digits', individual_digits: true }, 'a12', ['a', '1', '2']],
  ['Punctuation', { type: 'Punctuation' }, 'a!?b', ['a', '!', '?', 'b']],
  ['contiguous Punctuation', { type: 'Punctuation', behavior: 'Contiguous' }, 'a!?b', ['a', '!?', 'b']],
  ['Whitespace', { type: 'Whitespace' }, 'é_1 !? b', ['é_1', '!?', 'b']],
  [
    'WhitespaceSplit knows U+0085 and not U+FEFF',
    { type: 'WhitespaceSplit' },
    'a\u0085b\ufeffc d',
    ['a', 'b\ufeffc', 'd'],
  ],
  ["spaces at a line's end", split('\\s+$', 'Isolated'), 'a  b  ', ['a  b', '  ']],
];

for (const [name, part, text, expected] of cases) {
  test(`pre-tokenizer: ${name}`, () => assert.deepEqual(pieces(part, text), expected));
}

test("spaces at a line's end do not cost the square of their number", () => {
  assert.equal(pieces(split('\\s+$', 'Isolated'), `${' '.repeat(300_000)}x`).length, 1);
});

test('a behaviour unknown here is refused, never taken for another', () => {
  assert.throws(() => translatedPreTokenizer(split('a', 'Sideways')), TokenizerError);
  assert.throws(() => translatedPreTokenizer(split('a', 'MergedWithNext', true)), TokenizerError);
  assert.throws(() => translatedPreTokenizer({ type: 'Split', behavior: 'Isolated' }), TokenizerError);
});

test('long runs of combining marks are normalized in parts, and real text as a whole', () => {
  const normalize = (text: string) => text.normalize('NFC');
  assert.equal(normalizeInParts('e\u0301\u0316 日本', normalize), 'e\u0301\u0316 日本'.normalize('NFC'));
  const hostile = `a${'\u0300\u0316'.repeat(100_000)}`;
  assert.ok(normalizeInParts(hostile, normalize).startsWith('à\u0316'));
});
