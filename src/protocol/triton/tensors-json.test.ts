import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tensorOf } from '../../repository/tensor.ts';
import { elementsAsJson, jsonElementsMax } from './tensors-json.ts';

test('an output of many elements goes in binary only: as text it would hold up every stream', () => {
  const few = tensorOf('logits', 'FP32', [1, 3], Float32Array.of(0.5, -1, Number.NEGATIVE_INFINITY));
  assert.deepEqual(elementsAsJson(few), ['0.5', '-1.0', '-Infinity']);
  const shape = [1, jsonElementsMax + 1];
  const many = tensorOf('logits', 'FP32', shape, new Float32Array(jsonElementsMax + 1));
  assert.throws(() => elementsAsJson(many), /'logits' has 1048577 elements.*binary_data/);
});
