import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { openGguf } from '../../src/checkpoint/gguf-reader.ts';
import { byteCharacters, byteTokenName } from '../../src/tokenizer/byte-alphabet.ts';
import { type GgufVocabulary, ggufVocabularyOf } from '../../src/tokenizer/gguf-vocabulary.ts';
import type { TokenizerFiles } from '../../src/tokenizer/json-tokenizer.ts';
import { sharedPath } from './shared.ts';

/** A byte-level vocabulary small enough to read: 256 bytes, a few merges, two control tokens and one that is not special. */
export const tinyByteLevel: GgufVocabulary = (() => {
  const merges = [
    'h e',
    'l l',
    'he ll',
    'hell o',
    'Ġ w',
    'Ġw o',
    'r l',
    'Ġwo rl',
    'Ġworl d',
    'a a',
    'aa aa',
    'Ġ Ġ',
  ];
  const tokens = [...byteCharacters, ...merges.map((merge) => merge.replace(' ', ''))];
  const specials = ['<s>', '<|im_end|>', '<think>'];
  return {
    model: 'gpt2',
    pre: 'gpt-2',
    tokens: [...tokens, ...specials],
    tokenTypes: [...tokens.map(() => 1), 3, 3, 4],
    merges,
    bosTokenId: tokens.length,
    eosTokenId: tokens.length + 1,
    addBos: true,
  };
})();

/** A SentencePiece vocabulary small enough to read. */
export const tinySentencePiece: GgufVocabulary = (() => {
  const bytes = Array.from({ length: 256 }, (_, byte) => byteTokenName(byte));
  const pieces = [
    '▁▁',
    '▁a',
    'aa',
    'ab',
    'aba',
    'ba',
    'aaa',
    'bab',
    '▁ab',
    'aab',
    'baa',
    'bb',
    '▁',
    'a',
    'b',
    'é',
  ];
  return {
    model: 'llama',
    tokens: ['<unk>', '<s>', '</s>', ...bytes, ...pieces],
    tokenTypes: [2, 3, 3, ...bytes.map(() => 6), ...pieces.map(() => 1)],
    scores: [0, 0, 0, ...bytes.map(() => 0), ...pieces.map((_, i) => -i)],
    bosTokenId: 1,
    eosTokenId: 2,
    unknownTokenId: 0,
  };
})();

const folder = 'models/tokenizers';

/** The vocabulary of a GGUF in ../shared. */
export function sharedGgufVocabulary(name: string): GgufVocabulary {
  return ggufVocabularyOf(openGguf(sharedPath(`${folder}/gguf-vocab/ggml-vocab-${name}.gguf`)));
}

/** The files of a tokenizer folder in ../shared, whose tokenizer.json is gzipped. */
export function sharedTokenizerFiles(name: string): TokenizerFiles {
  return {
    'tokenizer.json': gunzipSync(readFileSync(sharedPath(`${folder}/${name}/tokenizer.json.gz`))).toString(),
    'tokenizer_config.json': readFileSync(sharedPath(`${folder}/${name}/tokenizer_config.json`), 'utf8'),
  };
}

/** llama.cpp's test vectors of a vocabulary: texts and their ids, without BOS. */
export function tokenizerVectors(name: string): { text: string; ids: number[] }[] {
  const path = sharedPath(`${folder}/gguf-vocab/ggml-vocab-${name}.gguf`);
  const texts = readFileSync(`${path}.inp`, 'utf8').split('\n__ggml_vocab_test__\n');
  const lines = readFileSync(`${path}.out`, 'utf8').split('\n');
  return texts.map((text, i) => ({ text, ids: (lines[i] ?? '').split(' ').filter(Boolean).map(Number) }));
}
