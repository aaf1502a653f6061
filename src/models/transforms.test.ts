import assert from 'node:assert/strict';
import { test } from 'node:test';
import { permutedRow, type TransformSource, transformRows, type WeightTransform } from './transforms.ts';

/** [rows, columns] whose elements count up from 0, of 1, 2 or 4 bytes each. */
function counting(shape: readonly number[], elementBytes: 1 | 2 | 4) {
  const length = shape.reduce((product, size) => product * size, 1);
  const bytes = Buffer.alloc(length * elementBytes);
  for (let index = 0; index < length; index++) {
    bytes.writeUIntLE(index % 256 ** elementBytes, index * elementBytes, elementBytes);
  }
  const rowBytes = (shape.at(-1) ?? 1) * elementBytes;
  const reads: [number, number][] = [];
  const source: TransformSource = {
    shape,
    elementBytes,
    readRows(rowStart, rowCount) {
      reads.push([rowStart, rowCount]);
      return bytes.subarray(rowStart * rowBytes, (rowStart + rowCount) * rowBytes);
    },
  };
  const read = (transform: WeightTransform, rowStart: number, rowCount: number) => {
    const result = Buffer.from(transformRows(transform, source, rowStart, rowCount));
    const elements = result.length / elementBytes;
    return Array.from({ length: elements }, (_, index) =>
      result.readUIntLE(index * elementBytes, elementBytes),
    );
  };
  return { read, reads };
}

test('ropePermutation makes neighbours of the halves of each head, reading only the heads asked for', () => {
  // Two heads of four rows; halves (0, 2) and (1, 3) become neighbours.
  assert.deepEqual(
    Array.from({ length: 8 }, (_, row) => permutedRow(row, 8, 2)),
    [0, 2, 1, 3, 4, 6, 5, 7],
  );
  const { read, reads } = counting([8, 2], 2);
  const permute: WeightTransform = { kind: 'ropePermutation', heads: 2 };
  assert.deepEqual(read(permute, 0, 8), [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
  assert.deepEqual(read(permute, 5, 2), [12, 13, 10, 11]);
  assert.deepEqual(reads.at(-1), [4, 4]);
  assert.deepEqual(counting([8], 4).read(permute, 0, 1), [0, 2, 1, 3, 4, 6, 5, 7]);
  assert.throws(() => counting([6, 1], 1).read(permute, 0, 6), /no whole number of pairs in 2 heads/);
});

test('transpose turns columns into rows, block by block', () => {
  for (const elementBytes of [1, 2, 4] as const) {
    const { read } = counting([2, 3], elementBytes);
    assert.deepEqual(read({ kind: 'transpose' }, 0, 3), [0, 3, 1, 4, 2, 5]);
    assert.deepEqual(read({ kind: 'transpose' }, 1, 1), [1, 4]);
  }
  const { read } = counting([1000, 3], 4);
  const column = read({ kind: 'transpose' }, 2, 1);
  assert.deepEqual([column.length, column[0], column[999]], [1000, 2, 2999]);
});

test('none reads the rows as they are', () => {
  assert.deepEqual(counting([4, 2], 2).read({ kind: 'none' }, 1, 2), [2, 3, 4, 5]);
});
