import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { RecencyList } from './recency-list.ts';

test('a seeded run of adds and removes keeps the order of a plain array', () => {
  const random = new SeededRandom(3);
  const list = new RecencyList(20);
  const expected: number[] = [];
  for (let step = 0; step < 2000; step++) {
    const item = random.integer(20);
    if (expected.includes(item)) {
      assert.ok(list.has(item) && list.remove(item));
      expected.splice(expected.indexOf(item), 1);
    } else {
      assert.ok(!list.has(item) && !list.remove(item));
      list.add(item);
      expected.push(item);
    }
    assert.deepEqual([list.oldest, list.size], [expected[0] ?? -1, expected.length]);
  }
  assert.ok(!list.has(-1) && !list.has(20));
});

test('the lowest level goes first, and within it the oldest', () => {
  const list = new RecencyList(5, 3);
  for (const [item, level] of [
    [0, 2],
    [1, 1],
    [2, 0],
    [3, 1],
    [4, 0],
  ] as const)
    list.add(item, level);
  const order: number[] = [];
  while (list.size > 0) {
    order.push(list.oldest);
    list.remove(list.oldest);
  }
  assert.deepEqual(order, [2, 4, 1, 3, 0]);
  assert.equal(list.oldest, -1);
});
