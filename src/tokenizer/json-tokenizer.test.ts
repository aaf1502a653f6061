import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { tinyByteLevel, tinySentencePiece } from '../../test/support/tokenizers.ts';
import { TokenizerError } from './errors.ts';
import { tokenizerFilesFromGguf } from './gguf-to-files.ts';
import { JsonTokenizer } from './json-tokenizer.ts';
import { wellFormed } from './utf8.ts';

const byteLevel = new JsonTokenizer(tokenizerFilesFromGguf(tinyByteLevel));
const sentencePiece = new JsonTokenizer(tokenizerFilesFromGguf(tinySentencePiece));
const tokenizers = { byteLevel, sentencePiece };

/** Any UTF-16, and texts made of what tokenizers trip over. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 20 })
    .map((codes) => String.fromCharCode(...codes)),
  fc
    .array(
      fc.constantFrom(
        'a',
        'b',
        ' ',
        '  ',
        '\n',
        '▁',
        'é',
        '🦜',
        '\ud800',
        '\0',
        '<s>',
        '<|im_end|>',
        '<think>',
        'hello world',
        "'s",
        '12',
      ),
    )
    .map((parts) => parts.join('')),
);

for (const [name, tokenizer] of Object.entries(tokenizers)) {
  test(`${name}: decode(encode(text)) is the text, special tokens as text or not`, () => {
    fc.assert(
      fc.property(anyText, fc.boolean(), (text, parseSpecialTokens) => {
        // SentencePiece writes a space as ▁, so it cannot tell the two apart; and a space put before each stretch of text.
        const expected = name === 'sentencePiece' ? wellFormed(text).replaceAll('▁', ' ') : wellFormed(text);
        const ids = tokenizer.encode(text, { parseSpecialTokens, addSpecialTokens: false });
        const decoded = tokenizer.decode(ids, { skipSpecialTokens: false });
        if (name === 'byteLevel' || !parseSpecialTokens) assert.equal(decoded, expected);
        for (const id of ids) assert.ok(id >= 0 && id < tokenizer.vocabularySize);
        if (!parseSpecialTokens) assert.ok(!ids.some((id) => tokenizer.isSpecial(id)));
      }),
      { numRuns: 300 },
    );
  });

  test(`${name}: pushing ids one by one gives what decoding all at once gives, valid UTF-8 or not`, () => {
    const id = fc.integer({ min: 0, max: tokenizer.vocabularySize + 3 });
    fc.assert(
      fc.property(
        fc.array(id, { maxLength: 24 }),
        fc.boolean(),
        fc.boolean(),
        (ids, skipSpecialTokens, continuation) => {
          const options = { skipSpecialTokens, continuation };
          const decoder = tokenizer.incrementalDecoder(options);
          const pieces = [...ids.map((one) => decoder.push(one)), decoder.flush()];
          const kept = ids.filter((one) => !(skipSpecialTokens && tokenizer.isSpecial(one)));
          const bytes = Buffer.concat(kept.map((one) => tokenizer.tokenBytes(one)));
          let whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
          if (name === 'sentencePiece' && !continuation && whole.startsWith(' ')) whole = whole.slice(1);
          assert.equal(pieces.join(''), whole);
          assert.equal(tokenizer.decode(ids, options), whole);
        },
      ),
      { numRuns: 500 },
    );
  });
}

test('text is emitted as soon as its characters are whole, never earlier', () => {
  const decoder = byteLevel.incrementalDecoder();
  const pieces = [...Buffer.from('é🦜!')].map((byte) =>
    decoder.push(byte < 0x80 ? byteLevel.encode('!')[1]! : idOfByte(byte)),
  );
  assert.deepEqual(pieces, ['', 'é', '', '', '', '🦜', '!']);
  decoder.push(idOfByte(0xf0));
  assert.equal(decoder.flush(), '\ufffd');
  assert.equal(decoder.flush(), '');
});

function idOfByte(byte: number): number {
  return Array.from({ length: 256 }, (_, id) => id).find((id) => byteLevel.tokenBytes(id)[0] === byte)!;
}

test('special tokens are tokens only where the caller allows it', () => {
  const text = 'hello<|im_end|><think>';
  const [bos, end, think] = ['<s>', '<|im_end|>', '<think>'].map((token) => byteLevel.tokenId(token)!);
  assert.deepEqual([...byteLevel.encode(text)], [bos, byteLevel.tokenId('hello'), end, think]);
  assert.equal(byteLevel.encode(text, { parseSpecialTokens: false }).includes(end!), false);
  assert.equal(byteLevel.encode(text, { parseSpecialTokens: false }).at(-1), think);
  assert.equal(byteLevel.decode(byteLevel.encode(text)), 'hello<think>');
  assert.deepEqual(byteLevel.stopTokenIds, [end]);
});

test('hostile texts of 200,000 characters encode in linear time and back', () => {
  const texts = ['a', ' ', '\n', ' \n', 'ab', '<', '<|im_end|>', '1', '\0', '\u0300', '🦜', '▁'].map((unit) =>
    unit.repeat(200_000 / unit.length),
  );
  for (const text of [...texts, `${' '.repeat(200_000)}x`]) {
    const ids = byteLevel.encode(text, { addSpecialTokens: false });
    assert.ok(byteLevel.decode(ids, { skipSpecialTokens: false }) === text);
    sentencePiece.encode(text);
  }
});

test('a lone surrogate becomes U+FFFD', () => {
  assert.equal(byteLevel.decode(byteLevel.encode('a\ud83eb')), 'a\ufffdb');
});

test('bad files, ids and texts are refused with a code', () => {
  const code = (expected: string) => (error: unknown) =>
    error instanceof TokenizerError && error.code === expected;
  const open = (json: unknown) => () => new JsonTokenizer({ 'tokenizer.json': JSON.stringify(json) });
  const decoder = { type: 'ByteLevel' };
  const model = { type: 'BPE', vocab: { a: 0 }, merges: [] };
  assert.throws(() => new JsonTokenizer({ 'tokenizer.json': '{' }), code('TOKENIZER_INVALID'));
  assert.throws(open({}), code('TOKENIZER_INVALID'));
  assert.throws(open({ decoder, model: { type: 'BPE' } }), code('TOKENIZER_INVALID'));
  assert.throws(open({ decoder, model: { ...model, vocab: { a: 1e9 } } }), code('TOKENIZER_INVALID'));
  assert.throws(open({ decoder, model: { ...model, vocab: { a: -1 } } }), code('TOKENIZER_INVALID'));
  assert.throws(open({ decoder, model: { ...model, merges: [['a']] } }), code('TOKENIZER_INVALID'));
  assert.throws(
    open({ decoder, model: { ...model, end_of_word_suffix: '</w>' } }),
    code('TOKENIZER_UNSUPPORTED'),
  );
  assert.throws(open({ decoder: { type: 'CTC' }, model }), code('TOKENIZER_UNSUPPORTED'));
  assert.throws(open({ decoder, model, pre_tokenizer: { type: 'Nonsense' } }), code('TOKENIZER_UNSUPPORTED'));
  const merged = { type: 'Split', pattern: { Regex: 'a' }, behavior: 'MergedWithNext', invert: true };
  assert.throws(open({ decoder, model, pre_tokenizer: merged }), code('TOKENIZER_UNSUPPORTED'));
  for (const id of [-1, 0.5, Number.NaN])
    assert.throws(() => byteLevel.tokenBytes(id), code('TOKEN_ID_OUT_OF_RANGE'));
  assert.throws(() => byteLevel.decode([-1]), code('TOKEN_ID_OUT_OF_RANGE'));
  assert.throws(() => byteLevel.encode('x'.repeat(16 * 1024 * 1024 + 1)), code('TEXT_TOO_LONG'));
});

test('an unknown GGUF model or pre-tokenizer is named, with the known ones', () => {
  assert.throws(
    () => tokenizerFilesFromGguf({ ...tinyByteLevel, model: 'rwkv' }),
    /'rwkv' is not supported; known: gpt2, llama, bert/,
  );
  assert.throws(
    () => tokenizerFilesFromGguf({ ...tinyByteLevel, pre: 'odd' }),
    /'odd' is not supported; known: default, llama-bpe/,
  );
});
