import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManualClock } from '../base/clock.ts';
import { ByteBudget, type ByteHolder } from './byte-budget.ts';

class Holder implements ByteHolder {
  heldBytes = 0;
  movedBytes = 0;
  wasCut = false;

  cut(): void {
    this.wasCut = true;
    this.heldBytes = 0;
  }
}

function holders(budget: ByteBudget, ...bytes: number[]): Holder[] {
  return bytes.map((heldBytes) => {
    const holder = Object.assign(new Holder(), { heldBytes });
    budget.update(holder);
    return holder;
  });
}

describe('the bound on bytes kept for clients', () => {
  test('beyond it the one that has stood still the longest is cut, and no more than needed', () => {
    const clock = new ManualClock();
    const budget = new ByteBudget({ bytesMax: 100, stallTimeoutMs: 60_000, clock });
    const [older, reading, younger] = holders(budget, 30, 30, 30) as [Holder, Holder, Holder];
    clock.advanceMs(5_000);
    younger.movedBytes = 1;
    budget.update(younger);
    clock.advanceMs(5_000);
    reading.movedBytes = 1;
    budget.update(reading);
    holders(budget, 30);
    assert.deepEqual([older.wasCut, reading.wasCut, younger.wasCut], [true, false, false]);
    holders(budget, 30);
    assert.deepEqual([reading.wasCut, younger.wasCut], [false, true]);
    assert.equal(budget.cuts, 2);
    assert.equal(budget.bytes, 90);
  });

  test('among those that move the largest is cut; what was given back meanwhile counts', () => {
    const budget = new ByteBudget({ bytesMax: 100, stallTimeoutMs: 60_000, clock: new ManualClock() });
    const [small, large, gone] = holders(budget, 10, 50, 40) as [Holder, Holder, Holder];
    gone.heldBytes = 0;
    holders(budget, 30);
    assert.deepEqual([small.wasCut, large.wasCut, gone.wasCut], [false, false, false]);
    holders(budget, 30);
    assert.deepEqual([small.wasCut, large.wasCut], [false, true]);
    assert.equal(budget.bytes, 70);
  });

  test('who moves nothing for too long is cut though there is room', () => {
    const clock = new ManualClock();
    const budget = new ByteBudget({ bytesMax: 100, stallTimeoutMs: 10_000, clock });
    const [still, moving] = holders(budget, 10, 10) as [Holder, Holder];
    clock.advanceMs(9_000);
    moving.movedBytes = 5;
    budget.sweep();
    assert.deepEqual([still.wasCut, moving.wasCut], [false, false]);
    clock.advanceMs(1_000);
    budget.sweep();
    assert.deepEqual([still.wasCut, moving.wasCut], [true, false]);
    budget.remove(moving);
    assert.equal(budget.bytes, 0);
  });
});
