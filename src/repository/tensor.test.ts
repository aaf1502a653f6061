import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fullShape } from './config/types.ts';
import { RepositoryError } from './errors.ts';
import type { InferRequest } from './model.ts';
import {
  bytesTensor,
  decodeBytes,
  elementCount,
  encodeBytes,
  tensorOf,
  textsOf,
  valuesOf,
} from './tensor.ts';

describe('tensors', () => {
  test('values come back from any alignment', () => {
    const whole = new Uint8Array(9);
    whole.set(tensorOf('x', 'INT32', [2], Int32Array.of(7, -2)).data, 1);
    const inputs: InferRequest['inputs'] = [
      { name: 'x', datatype: 'INT32', shape: [2], data: whole.subarray(1) },
    ];
    assert.deepEqual([...valuesOf(inputs[0]!, 'INT32')], [7, -2]);
  });

  test('texts and bytes', () => {
    const tensor = bytesTensor('t', [1, 3], ['é', '', 'x\u0000y']);
    assert.deepEqual(textsOf(tensor), ['é', '', 'x\u0000y']);
    assert.deepEqual([...tensor.data.subarray(0, 6)], [2, 0, 0, 0, 0xc3, 0xa9]);
    assert.deepEqual(decodeBytes(encodeBytes([Uint8Array.of(255)]), 't'), [Buffer.from([255])]);
  });

  test('cut BYTES are refused in Triton’s words', () => {
    const { data } = bytesTensor('t', [1], ['abc']);
    const error = (bytes: Uint8Array) => {
      try {
        decodeBytes(bytes, 't');
      } catch (thrown) {
        assert.ok(thrown instanceof RepositoryError);
        return `${thrown.status} ${thrown.message}`;
      }
      return 'none';
    };
    assert.match(
      error(data.subarray(0, 2)),
      /INVALID_ARGUMENT incomplete string length indicator for inference input 't'/,
    );
    assert.match(
      error(data.subarray(0, 5)),
      /incomplete string data for inference input 't', expecting string of length 3/,
    );
    assert.match(error(Uint8Array.of(255, 255, 255, 255)), /length 4294967295/);
  });

  test('shapes', () => {
    assert.equal(elementCount([]), 1);
    assert.equal(elementCount([2, 0, 3]), 0);
    assert.deepEqual(fullShape({ max_batch_size: 4 }, [-1]), [-1, -1]);
    assert.deepEqual(fullShape({ max_batch_size: 0 }, [3]), [3]);
  });
});
