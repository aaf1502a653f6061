import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deferredReadsMax } from '../limits.ts';
import { DeferredReads } from './deferred-reads.ts';

test('work waits for the turn’s end, keeps its order, and what it brings comes after it', async () => {
  const reads = new DeferredReads();
  const done: number[] = [];
  for (let i = 0; i < 100; i++) reads.push(() => done.push(i));
  reads.push(() => reads.push(() => done.push(100)));
  assert.deepEqual(done, []);
  while (done.length < 101) await new Promise(setImmediate);
  assert.deepEqual(
    done,
    Array.from({ length: 101 }, (_, i) => i),
  );
});

test('no more than the limit waits, and nothing is lost', async () => {
  const reads = new DeferredReads();
  const total = deferredReadsMax * 2 + 10;
  let done = 0;
  for (let i = 0; i < total; i++) {
    reads.push(() => {
      assert.equal(done, i);
      done++;
    });
  }
  assert.equal(total - done, deferredReadsMax);
  while (done < total) await new Promise(setImmediate);
});
