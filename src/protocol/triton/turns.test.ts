import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ManualClock } from '../../base/clock.ts';
import { Turns, turnMsMax } from './turns.ts';

const immediate = () => new Promise((resolve) => setImmediate(resolve));

test('requests of one moment are begun in order over several turns, and others come between', async () => {
  const clock = new ManualClock();
  const turns = new Turns(clock);
  const begun: number[] = [];
  const perTurn: number[] = [];
  const requestMs = turnMsMax / 4;
  const all = Array.from({ length: 40 }, async (_, index) => {
    const turn = turns.take();
    if (turn) await turn;
    begun.push(index);
    clock.advanceMs(requestMs);
  });
  assert.ok(turns.waiting > 0);
  while (turns.waiting > 0) {
    const before = begun.length;
    await immediate();
    perTurn.push(begun.length - before);
  }
  await Promise.all(all);
  assert.deepEqual(
    begun,
    Array.from({ length: 40 }, (_, index) => index),
  );
  assert.ok(Math.max(...perTurn) <= 2 * (turnMsMax / requestMs), `at a time: ${perTurn}`);
});

test('one alone need not wait', async () => {
  const turns = new Turns(new ManualClock());
  assert.equal(turns.take(), undefined);
  await immediate();
  assert.equal(turns.take(), undefined);
});
