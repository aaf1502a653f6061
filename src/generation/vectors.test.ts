import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cosine, embeddingOf } from './vectors.ts';

const vector = (...values: number[]): Float32Array => Float32Array.from(values);

test('an embedding is cut, then normalized; a vector of zeros stays one', () => {
  assert.deepEqual(embeddingOf(vector(3, 4, 12), 2, true), vector(0.6, 0.8));
  assert.deepEqual(embeddingOf(vector(3, 4), undefined, false), vector(3, 4));
  assert.deepEqual(embeddingOf(vector(0, 0), undefined, true), vector(0, 0));
});

test('the cosine is that of the angle, whatever the lengths', () => {
  assert.equal(cosine(vector(2, 0), vector(5, 0)), 1);
  assert.equal(cosine(vector(1, 0), vector(0, 3)), 0);
  assert.equal(cosine(vector(1, 1), vector(-2, -2)), -1);
  assert.equal(cosine(vector(0, 0), vector(1, 1)), 0);
});
