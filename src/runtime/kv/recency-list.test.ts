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
