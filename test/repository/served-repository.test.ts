import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { servedRepository } from '../../src/repository/served-repository.ts';
import { bytesTensor, tensorOf, textsOf } from '../../src/repository/tensor.ts';
import { byteTokenizer } from '../openai/byte-tokenizer.ts';
import { promptOf, testEngine } from '../openai/test-server.ts';
import { inferAll } from './model-folder.ts';

test('an engine that runs is shown as TensorRT-LLM’s models, and outlives them', async () => {
  const says = 'hello there ';
  const { engine } = await testEngine({ says });
  const tokenizerFolder = mkdtempSync(join(tmpdir(), 'nereid-tokenizer-'));
  for (const [name, text] of Object.entries(byteTokenizer().files))
    writeFileSync(join(tokenizerFolder, name), text);
  const { repository, close } = await servedRepository([{ name: 'test', client: engine, tokenizerFolder }]);
  const names = repository.index(true).map(({ name }) => name);
  assert.deepEqual(names, [
    'ensemble',
    'postprocessing',
    'preprocessing',
    'tensorrt_llm',
    'tensorrt_llm_bls',
  ]);
  const inputs = [
    bytesTensor('text_input', [1, 1], [promptOf(says)]),
    tensorOf('max_tokens', 'INT32', [1, 1], Int32Array.of(5)),
  ];
  const [response] = await inferAll(repository.model('ensemble'), { inputs });
  const text = response?.outputs.find(({ name }) => name === 'text_output');
  assert.ok(text);
  assert.deepEqual(textsOf(text), ['hello']);
  await close();
  assert.equal(engine.ready, true);
  await engine.close();
  rmSync(tokenizerFolder, { recursive: true });
  await assert.rejects(servedRepository([]), /no engine runs/);
});
