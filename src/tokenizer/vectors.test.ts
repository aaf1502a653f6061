import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import {
  sharedGgufVocabulary,
  sharedTokenizerFiles,
  tokenizerVectors,
} from '../../test/support/tokenizers.ts';
import { openGguf } from '../checkpoint/gguf-reader.ts';
import { ggufVocabularyFromTokenizerJson } from './files-to-gguf.ts';
import { openGgufTokenizer, tokenizerFilesFromGguf } from './gguf-to-files.ts';
import { JsonTokenizer, type TokenizerFiles } from './json-tokenizer.ts';
import { openTokenizer } from './open.ts';

const skip = skipWithout('models/tokenizers');
const plain = { addSpecialTokens: false, parseSpecialTokens: false };

function assertVectors(files: TokenizerFiles, name: string): void {
  const tokenizer = new JsonTokenizer(files);
  const vectors = tokenizerVectors(name);
  assert.equal(vectors.length, 47);
  for (const { text, ids } of vectors) {
    const encoded = tokenizer.encode(text, plain);
    assert.deepEqual([...encoded], ids, JSON.stringify(text));
    if (name !== 'bert-bge') assert.equal(tokenizer.decode(encoded), text);
  }
}

for (const name of ['llama-spm', 'phi-3', 'gpt-2', 'deepseek-coder', 'bert-bge']) {
  test(`the GGUF vocabulary ${name} gives llama.cpp's ids for its 47 vectors`, { skip }, () => {
    assertVectors(tokenizerFilesFromGguf(sharedGgufVocabulary(name)), name);
  });
}

for (const [folder, name] of [
  ['llama3', 'llama-bpe'],
  ['qwen3', 'qwen2'],
  ['gpt2', 'gpt-2'],
] as const) {
  test(`the tokenizer.json of ${folder} gives llama.cpp's ids, and so does a GGUF vocabulary made of it`, {
    skip,
  }, () => {
    const files = sharedTokenizerFiles(folder);
    assertVectors(files, name);
    const vocabulary = ggufVocabularyFromTokenizerJson(files);
    assert.equal(vocabulary.pre, name);
    assertVectors(tokenizerFilesFromGguf(vocabulary), name);
  });
}

test('deepseek_v3 becomes a GGUF vocabulary with its pre-tokenizer named and ids unchanged', { skip }, () => {
  const files = sharedTokenizerFiles('deepseek_v3');
  const vocabulary = ggufVocabularyFromTokenizerJson(files);
  assert.equal(vocabulary.pre, 'deepseek-v3');
  assert.equal(vocabulary.addBos, true);
  const [before, after] = [new JsonTokenizer(files), new JsonTokenizer(tokenizerFilesFromGguf(vocabulary))];
  for (const { text } of tokenizerVectors('gpt-2')) {
    assert.deepEqual(after.encode(text), before.encode(text));
    assert.deepEqual(
      after.encode(text),
      Int32Array.of(0, ...after.encode(text, { addSpecialTokens: false })),
    );
  }
});

test('a SentencePiece vocabulary survives GGUF → folder → GGUF → folder', { skip }, () => {
  const files = tokenizerFilesFromGguf(sharedGgufVocabulary('phi-3'));
  assertVectors(tokenizerFilesFromGguf(ggufVocabularyFromTokenizerJson(files)), 'phi-3');
});

test('stories260K encodes as its golden vectors, from tokenizer.json and from GGUF alike', {
  skip: skipWithout('models/stories260K'),
}, async () => {
  const golden = JSON.parse(readFileSync(sharedPath('models/stories260K/golden.json'), 'utf8')) as {
    encode_vectors: [string, number[]][];
    prompts: { prompt: string; prompt_ids: number[] }[];
  };
  const folder = await openTokenizer(sharedPath('models/stories260K'));
  const gguf = openGgufTokenizer(openGguf(sharedPath('models/stories260K/stories260K-f32.gguf')));
  // For '' the golden has a lone '▁'; native tokenizers, llama.cpp and SentencePiece give none.
  const vectors = golden.encode_vectors.filter(([text]) => text !== '');
  for (const [text, ids] of [...vectors, ...golden.prompts.map((p) => [p.prompt, p.prompt_ids] as const)]) {
    assert.deepEqual([...folder.encode(text)], ids);
    assert.deepEqual([...gguf.encode(text)], ids);
  }
  assert.deepEqual([...folder.encode('')], [1]);
  assert.deepEqual(folder.stopTokenIds, [1, 2]);
});
