import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionNumbers, connectionOf, connectionsMax, requestIdsPerConnection } from './request-ids.ts';

test('however many front ends come and go, ids are safe, name their connection and are never used again', () => {
  const numbers = new ConnectionNumbers(3);
  const lastOf = new Map<number, number>();
  for (let life = 0; life < 50_000; life++) {
    const { number, firstRequestId } = numbers.take()!;
    assert.ok(number < 3);
    assert.ok(firstRequestId > (lastOf.get(number) ?? -1));
    const last = firstRequestId + (life % 7);
    assert.ok(Number.isSafeInteger(last));
    assert.equal(connectionOf(last), number);
    lastOf.set(number, last);
    numbers.giveBack(number, last + 1);
  }
});

test('no more connections than connectionsMax, whose last ids are still safe', () => {
  const numbers = new ConnectionNumbers();
  for (let index = 0; index < connectionsMax; index++) assert.equal(numbers.take()?.number, index);
  assert.equal(numbers.take(), undefined);
  const last = connectionsMax * requestIdsPerConnection - 1;
  assert.ok(Number.isSafeInteger(last) && Number.isSafeInteger(last + 1));
  assert.equal(connectionOf(last), connectionsMax - 1);
  numbers.giveBack(17, 17 * requestIdsPerConnection + 5);
  assert.deepEqual(numbers.take(), { number: 17, firstRequestId: 17 * requestIdsPerConnection + 5 });
});

test('a range that is nearly used up begins again', () => {
  const numbers = new ConnectionNumbers(1);
  numbers.take();
  numbers.giveBack(0, requestIdsPerConnection / 2);
  assert.deepEqual(numbers.take(), { number: 0, firstRequestId: 0 });
});
