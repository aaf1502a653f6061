import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { type Column, decodeColumns, encodeColumns } from './columns.ts';

test('numbers and arrays of every type come back as they were, empty ones too', () => {
  const columns: Column[] = [
    Int32Array.of(-5, 7, 2 ** 31 - 1),
    new Float32Array(0),
    Float32Array.of(0.5, Number.NaN, -0),
    Float64Array.of(Number.MAX_SAFE_INTEGER),
    Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9),
  ];
  const decoded = decodeColumns(encodeColumns({ numbers: [1.5, -3], columns }));
  assert.deepEqual([...decoded.numbers], [1.5, -3]);
  assert.deepEqual(decoded.columns, columns);
  assert.deepEqual(decodeColumns(encodeColumns({ numbers: [], columns: [] })).columns, []);
});

test('whatever bytes come, they are decoded within bounds or refused by code', () => {
  const whole = encodeColumns({ numbers: [1], columns: [Int32Array.of(1, 2, 3), Uint8Array.of(1)] });
  const random = new SeededRandom(5);
  let refused = 0;
  for (let round = 0; round < 2000; round++) {
    const bytes = whole.slice(0, random.integer(2) === 0 ? whole.length : random.integer(whole.length));
    for (let change = 0; change < 3 && bytes.length > 0; change++)
      bytes[random.integer(bytes.length)] = random.integer(256);
    try {
      decodeColumns(bytes);
    } catch (thrown) {
      assert.equal(
        (thrown as { code?: string }).code,
        'RANK_MESSAGE_INVALID',
        `round ${round}: ${String(thrown)}`,
      );
      refused++;
    }
  }
  assert.ok(refused > 500);
});
