import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testEngine } from '../../test/openai/test-server.ts';

test('models of one name and shape have different fingerprints when their contents differ, and the same when not', async () => {
  const hashes = ['a', 'b', 'a'].map((letter) => letter.repeat(64));
  const engines = await Promise.all(hashes.map((contentHash) => testEngine({ model: { contentHash } })));
  const [first, other, same] = engines.map(({ model }) => model.fingerprint);
  assert.match(first ?? '', /^fp_[0-9a-f]{12}$/);
  assert.notEqual(other, first);
  assert.equal(same, first);
  for (const { engine } of engines) await engine.close();
});
