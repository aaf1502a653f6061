import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { skipWithout } from '../../test/support/shared.ts';
import { sharedGgufVocabulary, tinySentencePiece } from '../../test/support/tokenizers.ts';
import { tokenizerFilesFromGguf } from './gguf-to-files.ts';
import type { GgufVocabulary } from './gguf-vocabulary.ts';
import { JsonTokenizer } from './json-tokenizer.ts';
import { mergeByHeap, mergeByScan } from './merge.ts';
import { MergeTable } from './merge-table.ts';

test('the heap and the scan merge alike, and a pair listed twice keeps its later rank', () => {
  const id = fc.integer({ min: 0, max: 6 });
  const merge = fc.record({ left: id, right: id, result: id, rank: fc.integer({ min: 0, max: 5 }) });
  fc.assert(
    fc.property(fc.array(merge, { maxLength: 20 }), fc.array(id, { maxLength: 60 }), (merges, symbols) => {
      const table = new MergeTable(merges);
      const [scanned, heaped] = [Int32Array.from(symbols), Int32Array.from(symbols)];
      const left = mergeByScan(scanned, symbols.length, table);
      assert.equal(mergeByHeap(heaped, symbols.length, table), left);
      assert.deepEqual(heaped.slice(0, left), scanned.slice(0, left));
    }),
    { numRuns: 500 },
  );
});

/** SentencePiece as it is defined: of all neighbours that together are a piece, merge those of the best score, the leftmost first. */
function naiveSentencePiece(vocabulary: GgufVocabulary, text: string): number[] {
  const ids = new Map(vocabulary.tokens.map((token, id) => [token, id]));
  const score = (token: string) => {
    const id = ids.get(token);
    return id !== undefined && [1, 4].includes(vocabulary.tokenTypes![id]!)
      ? vocabulary.scores![id]
      : undefined;
  };
  const symbols = text === '' ? [] : [...`▁${text.replaceAll(' ', '▁')}`];
  for (;;) {
    let best = -1;
    let bestScore = Number.NEGATIVE_INFINITY;
    for (let i = 0; i + 1 < symbols.length; i++) {
      const candidate = score(symbols[i]! + symbols[i + 1]!);
      if (candidate !== undefined && candidate > bestScore) [best, bestScore] = [i, candidate];
    }
    if (best < 0) break;
    symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!);
  }
  const byte = (value: number) => ids.get(`<0x${value.toString(16).toUpperCase().padStart(2, '0')}>`)!;
  return symbols.flatMap((symbol) =>
    ids.has(symbol) ? [ids.get(symbol)!] : [...Buffer.from(symbol)].map(byte),
  );
}

function assertSentencePiece(vocabulary: GgufVocabulary, text: fc.Arbitrary<string>, numRuns: number): void {
  const tokenizer = new JsonTokenizer(tokenizerFilesFromGguf(vocabulary));
  fc.assert(
    fc.property(text, (sample) => {
      const ids = tokenizer.encode(sample, { addSpecialTokens: false, parseSpecialTokens: false });
      assert.deepEqual([...ids], naiveSentencePiece(vocabulary, sample), JSON.stringify(sample));
    }),
    { numRuns },
  );
}

test('merges made of scores choose what SentencePiece chooses: a tiny vocabulary full of overlaps', () => {
  assertSentencePiece(
    tinySentencePiece,
    fc.string({ unit: fc.constantFrom('a', 'b', ' ', 'é', '日'), maxLength: 40 }),
    2000,
  );
});

test('merges made of scores choose what SentencePiece chooses: the Llama 2 vocabulary', {
  skip: skipWithout('models/tokenizers'),
}, () => {
  const parts = fc.constantFrom(
    'a',
    'A',
    'e',
    'th',
    'in',
    's',
    ' ',
    '  ',
    '=',
    '-',
    '_',
    '0',
    '1',
    '.',
    '\n',
    'é',
    '日',
    'ing',
    'tion',
    '🦜',
  );
  assertSentencePiece(
    sharedGgufVocabulary('llama-spm'),
    fc.array(parts, { maxLength: 60 }).map((all) => all.join('')),
    150,
  );
});
