import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../../src/base/entry.ts';
import { buildEngine } from '../../src/builder/build.ts';
import { type BuildDtype, defaultRecipe } from '../../src/builder/config.ts';
import { openTokenizer } from '../../src/tokenizer/open.ts';
import { sharedPath, skipWithout } from '../support/shared.ts';

/**
 * llama.cpp itself, through node-llama-cpp, loads what our builder writes: vocabulary, pre-tokenizer, metadata, tensors. Its greedy text is
 * compared with our goldens, its token ids with our tokenizer's.
 */
const peer = join(packageRoot, 'bench/node_modules/node-llama-cpp/dist/index.js');
const noPeer = existsSync(peer) ? false : 'node-llama-cpp is not installed (make test installs it in bench/)';

const folder = mkdtempSync(join(tmpdir(), 'nereid-llama-cpp-'));
after(() => rmSync(folder, { recursive: true, force: true }));

type Peer = typeof import('../../bench/node_modules/node-llama-cpp/dist/index.js');

async function load(modelPath: string) {
  const { getLlama, LlamaLogLevel } = (await import(pathToFileURL(peer).href)) as Peer;
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: 2 });
  return { llama, model: await llama.loadModel({ modelPath }) };
}

async function build(source: string, dtype: BuildDtype): Promise<string> {
  const output = join(folder, `${source.split('/').at(-1)}-${dtype}`);
  const recipe = { ...defaultRecipe, dtype };
  const { manifest } = await buildEngine({ source, name: 'test', output, recipe });
  return join(output, manifest.ranks[0] as string);
}

describe('llama.cpp loads our GGUF files', { skip: noPeer }, () => {
  const stories = 'models/stories260K';
  test('stories260K from its Hugging Face folder: greedy text equals the golden', {
    skip: skipWithout(stories),
  }, async () => {
    const { llama, model } = await load(await build(sharedPath(stories), 'f32'));
    const golden = JSON.parse(readFileSync(sharedPath(`${stories}/golden.json`), 'utf8'));
    const { prompt_ids: prompt, greedy_ids: ids } = golden.prompts[0];
    const context = await model.createContext({ contextSize: 512, batchSize: 128, threads: 2 });
    const sequence = context.getSequence();
    const made: number[] = [];
    for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      made.push(token);
      if (made.length === 48) break;
    }
    assert.deepEqual(made, ids.slice(0, 48));
    await llama.dispose();
  });

  const texts = [
    'What is a lighthouse?',
    '  two spaces, 12345 digits, and a\n\nbreak',
    "it's; don't — “quotes” naïve café 日本語 🙂",
    '<|im_start|>user\nHello<|im_end|>\n',
  ];
  for (const dtype of ['q8_0', 'q4_k'] as const) {
    test(`nereid-16m as ${dtype}: loads, and its pre-tokenizer gives our ids`, async () => {
      const source = join(packageRoot, 'models/nereid-16m');
      const { llama, model } = await load(await build(source, dtype));
      const tokenizer = await openTokenizer(source);
      for (const text of texts) {
        const theirs = model.tokenize(text, true);
        const ours = tokenizer.encode(text, { addSpecialTokens: false });
        assert.deepEqual([...theirs], [...ours], JSON.stringify(text));
      }
      const context = await model.createContext({ contextSize: 256, batchSize: 64, threads: 2 });
      const chat = '<|im_start|>user\nWhat is a lighthouse?<|im_end|>\n<|im_start|>assistant\n';
      let answer = '';
      for await (const token of context
        .getSequence()
        .evaluate(model.tokenize(chat, true), { temperature: 0 })) {
        answer += model.detokenize([token]);
        if (answer.length > 300) break;
      }
      assert.match(answer, /tower/);
      await llama.dispose();
    });
  }
});
