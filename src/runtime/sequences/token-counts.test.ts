import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { TokenCounts } from './token-counts.ts';

test('counts are those of the output, tokens those of prompt and output, in order of first appearance', () => {
  const random = new SeededRandom(5);
  const prompt = Int32Array.from({ length: 100 }, () => random.integer(40));
  const output = Array.from({ length: 300 }, () => random.integer(200));
  const counts = new TokenCounts(prompt);
  for (const token of output) counts.add(token);
  const distinct = [...new Set([...prompt, ...output])];
  assert.deepEqual([...counts.tokens.subarray(0, counts.size)], distinct);
  const expected = distinct.map((token) => output.filter((other) => other === token).length);
  assert.deepEqual([...counts.counts.subarray(0, counts.size)], expected);
});
