import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NereidError } from '../base/errors.ts';
import { generationDefaults } from './generation-defaults.ts';

let folder: string;
let path: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nereid-defaults-'));
  path = join(folder, 'generation_config.json');
});
after(() => rm(folder, { recursive: true }));

async function defaultsOf(config: unknown) {
  await writeFile(path, typeof config === 'string' ? config : JSON.stringify(config));
  return generationDefaults(folder);
}

test('no file is no advice', async () => {
  assert.deepEqual(await generationDefaults(join(folder, 'nowhere')), {});
});

test('sensible values are taken, and do_sample: false is greedy', async () => {
  const config = { temperature: 0.7, top_k: 20, top_p: 0.8, min_p: 0, repetition_penalty: 1.1 };
  assert.deepEqual(await defaultsOf({ ...config, max_new_tokens: 7, eos_token_id: [1, 2] }), {
    temperature: 0.7,
    topK: 20,
    topP: 0.8,
    minP: 0,
    repetitionPenalty: 1.1,
    maxTokens: 7,
  });
  assert.deepEqual(await defaultsOf({ do_sample: false, temperature: 0.7, top_k: -1 }), {
    temperature: 0,
    topK: 0,
  });
});

test('nonsensical values count as absent, one by one', async () => {
  const nonsense = [
    { top_p: 0, temperature: -1, top_k: 1.5, max_new_tokens: 0 },
    { top_p: 1.5, temperature: 3, top_k: -2, max_new_tokens: 2.5, min_p: 2, repetition_penalty: 0 },
    { top_p: '0.9', temperature: null, top_k: [], max_new_tokens: {}, min_p: -1, repetition_penalty: -1 },
  ];
  for (const config of nonsense) assert.deepEqual(await defaultsOf(config), {});
  assert.deepEqual(await defaultsOf({ top_p: 0, top_k: 5 }), { topK: 5 });
});

test('what is no JSON object is an error that names the file', async () => {
  for (const text of ['{"top_p": 0.9', '', '[]', 'null', '"text"']) {
    await assert.rejects(defaultsOf(text), (error: unknown) => {
      assert.ok(error instanceof NereidError);
      assert.equal(error.code, 'GENERATION_CONFIG_INVALID');
      assert.ok(error.message.includes(path), error.message);
      return true;
    });
  }
});
