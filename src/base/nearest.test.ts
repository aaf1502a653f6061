import assert from 'node:assert/strict';
import { test } from 'node:test';
import { didYouMean, nearestName } from './nearest.ts';

test('finds what a typo most likely means, and nothing for what is no typo', () => {
  const known = ['dtype', 'output', 'contextLengthMax'];
  assert.equal(nearestName('dytpe', known), 'dtype');
  assert.equal(nearestName('contextlengthmax', known), 'contextLengthMax');
  assert.equal(nearestName('model', known), undefined);
  assert.equal(didYouMean('outptu', known), "; did you mean 'output'?");
  assert.equal(didYouMean('zzz', known), '');
});
