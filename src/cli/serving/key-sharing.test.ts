import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { ManualClock } from '../../base/clock.ts';
import { ApiKeys, keyDigest } from '../../protocol/authentication.ts';
import type { ControlMessage } from './front-end-messages.ts';
import type { FrontEndSlot } from './front-end-slot.ts';
import { SharedKeyUse, shareKeyUse } from './key-sharing.ts';

/** Front ends with a key of 4 requests a minute, 2 at a time, that share what is used of it. */
function frontEnds(count: number) {
  const limits = { requestsPerMinute: 4, concurrentRequests: 2 };
  const slots: FrontEndSlot[] = [];
  const shared = new SharedKeyUse(() => slots);
  const all = Array.from({ length: count }, () => {
    const keys = new ApiKeys(
      [{ name: 'anna', sha256: keyDigest('secret'), ...limits }],
      undefined,
      new ManualClock(),
    );
    const slot = {
      send: (message: ControlMessage) => {
        if (message.kind === 'key-use') keys.usedElsewhere(message.changes);
      },
    } as FrontEndSlot;
    slots.push(slot);
    shareKeyUse(keys, (changes) => shared.message({ kind: 'key-use', changes }, slot));
    return { slot, begin: () => keys.check('secret').begin() };
  });
  return { shared, all };
}

test('limits of a key hold for all front ends together', async () => {
  const { all } = frontEnds(3);
  const [a, b, c] = all as [(typeof all)[0], (typeof all)[0], (typeof all)[0]];
  const ends = [a.begin(), b.begin()];
  await turn();
  assert.throws(() => c.begin(), /2 concurrent requests/);
  for (const end of ends) end();
  await turn();
  c.begin()();
  a.begin()();
  await turn();
  for (const { begin } of all) assert.throws(begin, /4 requests per minute/);
});

test('what ran in a front end that is gone is taken back; a new one hears what runs', async () => {
  const { shared, all } = frontEnds(2);
  const [a, b] = all as [(typeof all)[0], (typeof all)[0]];
  a.begin();
  a.begin();
  await turn();
  assert.throws(() => b.begin(), /2 concurrent requests/);
  shared.ended(a.slot);
  b.begin();
  await turn();
  shared.started(a.slot);
  b.begin();
  await turn();
  assert.throws(() => a.begin(), /at its limit/);
});
