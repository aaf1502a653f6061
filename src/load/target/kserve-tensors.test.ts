import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rawContents, valuesOf } from './kserve-bytes.ts';
import { answerOf, int32Tensor, singleTensor } from './kserve-tensors.ts';

test('raw contents are read back as they were written', () => {
  const values: [string, (number | string)[]][] = [
    ['INT32', [-5, 2 ** 31 - 1]],
    ['UINT32', [2 ** 32 - 1]],
    ['INT64', [-7]],
    ['UINT64', [2 ** 50]],
    ['FP32', [0.5, -2]],
    ['BOOL', [1, 0]],
    ['BYTES', ['', 'hé', '灯']],
  ];
  for (const [datatype, written] of values) {
    const raw = rawContents({ name: 'x', datatype, shape: [1, written.length], values: written });
    assert.deepEqual(valuesOf(datatype, raw), written, datatype);
  }
  assert.deepEqual(rawContents(singleTensor('t', 'BYTES', 'ab')), Buffer.from([2, 0, 0, 0, 97, 98]));
  assert.deepEqual(valuesOf('FP16', Buffer.from([1, 2])), []);
});

test('an answer’s tokens: those of the lengths, without the prompt that a whole answer begins with', () => {
  const request = { text: '', tokens: Int32Array.of(7, 8), messages: [], outputTokensMax: 3 };
  const outputs = (ids: number[], length: number) => [
    int32Tensor('output_ids', ids),
    int32Tensor('sequence_length', [length]),
  ];
  assert.equal(answerOf(outputs([7, 8, 1, 2, 3], 5), request, false)?.tokens, 3);
  assert.equal(answerOf(outputs([7, 8, 1, 2, 0], 4), request, false)?.tokens, 2, 'padding is none');
  assert.equal(answerOf(outputs([1, 2, 3], 3), request, false)?.tokens, 3, 'it left the prompt out');
  assert.equal(answerOf(outputs([7, 8], 2), request, true)?.tokens, 2, 'pieces never carry it');
  assert.equal(answerOf([], request, true), undefined);
  assert.equal(answerOf([singleTensor('text_output', 'BYTES', 'hi')], request, true)?.text, 'hi');
});
