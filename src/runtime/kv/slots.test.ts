import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { prefixCopyPositionsMin, SlotKvCache } from './slots.ts';

/** A cache over slots that only remember what was done to them. */
function open(overrides: { slots?: number; bytesMax?: number; retainedBytesMax?: number } = {}) {
  const log: string[] = [];
  const bytesMax = overrides.bytesMax ?? 400;
  const cache = new SlotKvCache({
    slots: 4,
    bytesMax,
    bytesPerPosition: 1,
    retainedBytesMax: bytesMax,
    copySlot: (from, to, length) => log.push(`copy ${from}>${to} ${length}`),
    releaseSlot: (slot) => log.push(`release ${slot}`),
    ...overrides,
  });
  return { cache, log };
}

function tokens(length: number, first = 0): Int32Array {
  return Int32Array.from({ length }, (_, i) => first + i);
}

/** Reserves, writes and retains a text. */
function retain(cache: SlotKvCache, text: Int32Array, key = ''): number {
  const { handle } = cache.reserve(key, text.length);
  cache.commit(handle, text);
  cache.release(handle, true);
  return handle;
}

test('the longest prefix of the same key matches, from a named minimum on', () => {
  const { cache } = open();
  const short = retain(cache, tokens(20));
  const long = retain(cache, tokens(60));
  assert.deepEqual(cache.match('', tokens(40), 39), { handle: long, length: 39 });
  assert.equal(cache.match('', tokens(20), 20)?.length, 20);
  assert.equal(cache.match('other', tokens(40), 39), undefined);
  assert.equal(cache.match('', tokens(40), prefixCopyPositionsMin - 1), undefined);
  assert.deepEqual(cache.matchHandle(short, '', tokens(5), 4), { handle: short, length: 4 });
});

test('only committed positions match', () => {
  const { cache } = open();
  const { handle } = cache.reserve('', 60);
  assert.equal(cache.match('', tokens(60), 59), undefined);
  cache.commit(handle, tokens(30));
  assert.equal(cache.match('', tokens(60), 59)?.length, 30);
  cache.truncate(handle, 20);
  assert.equal(cache.match('', tokens(60), 59)?.length, 20);
  assert.throws(() => cache.truncate(handle, 21), /holds 20 positions/);
  assert.throws(() => cache.commit(handle, tokens(41)), /wrote past its 60 positions/);
});

test('a retained slot is taken over when most of it matches, copied when little does', () => {
  const { cache, log } = open();
  const first = retain(cache, tokens(80));
  const whole = cache.reserve('', 100, { handle: first, length: 70 });
  assert.deepEqual(whole, { handle: first, cached: 70 });
  cache.commit(first, tokens(10, 500));
  cache.release(first, true);
  const part = cache.reserve('', 100, { handle: first, length: 40 });
  assert.notEqual(part.handle, first);
  assert.deepEqual(log, [`copy ${first}>${part.handle} 40`]);
  assert.deepEqual([cache.usage().handlesInUse, cache.usage().handlesRetained], [1, 1]);
});

test('without room for a copy the source is taken over after all', () => {
  const { cache, log } = open({ bytesMax: 100 });
  const first = retain(cache, tokens(80));
  const { handle, cached } = cache.reserve('', 90, { handle: first, length: 40 });
  assert.deepEqual([handle, cached, log.length], [first, 40, 0]);
});

test('the least recently used is evicted first, and only when its bytes are needed', () => {
  const { cache, log } = open({ bytesMax: 200 });
  const oldest = retain(cache, tokens(60, 0));
  const middle = retain(cache, tokens(60, 1000));
  retain(cache, tokens(60, 2000));
  // Reading the oldest by a copy makes it the most recent.
  const reader = cache.reserve('', 20, { handle: oldest, length: 20 });
  cache.release(reader.handle, false);
  log.length = 0;
  cache.reserve('', 50);
  assert.deepEqual(log, [`release ${middle}`]);
});

test('a pinned slot is never evicted or taken over, and its room is not promised', () => {
  const { cache, log } = open({ bytesMax: 100, slots: 2 });
  const pinned = retain(cache, tokens(60));
  cache.pin(pinned);
  assert.ok(!cache.canReserve(41));
  assert.ok(cache.canReserve(40));
  const { handle } = cache.reserve('', 40, { handle: pinned, length: 30 });
  assert.notEqual(handle, pinned);
  assert.ok(!cache.canReserve(1), 'no slot is left');
  cache.releaseRetained();
  assert.ok(!log.includes(`release ${pinned}`));
  cache.unpin(pinned);
  cache.releaseRetained();
  assert.ok(log.includes(`release ${pinned}`));
  assert.throws(() => cache.unpin(pinned), /not pinned/);
});

test('what is retained keeps to its own limit; 0 retains nothing', () => {
  const { cache } = open({ retainedBytesMax: 100 });
  for (let i = 0; i < 4; i++) retain(cache, tokens(40, i * 1000));
  assert.equal(cache.usage().bytesRetained, 80);
  const none = open({ retainedBytesMax: 0 });
  const handle = retain(none.cache, tokens(40));
  assert.deepEqual(none.log, [`release ${handle}`]);
});

test('append grows a reservation if the bytes are there', () => {
  const { cache } = open({ bytesMax: 100 });
  const { handle } = cache.reserve('', 30);
  cache.reserve('', 30);
  assert.ok(cache.append(handle, 70));
  assert.ok(!cache.append(handle, 71));
  assert.equal(cache.usage().bytesReserved, 100);
  assert.ok(cache.append(handle, 10), 'less than reserved changes nothing');
  assert.equal(cache.usage().bytesReserved, 100);
});

test('random use never exceeds bytes or slots, and never loses one', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = new SeededRandom(seed);
    const { cache } = open({ bytesMax: 150 + random.integer(300), retainedBytesMax: random.integer(400) });
    const live: number[] = [];
    const pinned: number[] = [];
    for (let step = 0; step < 200; step++) {
      const action = random.integer(5);
      const positions = 20 + random.integer(80);
      if (action <= 1 && cache.canReserve(positions)) {
        const text = tokens(positions, random.integer(3) * 1000);
        const { handle, cached } = cache.reserve('', positions, cache.match('', text, positions - 1));
        cache.commit(handle, text.subarray(cached, cached + random.integer(positions - cached + 1)));
        assert.ok(!live.includes(handle), `seed ${seed}: slot ${handle} has two writers`);
        live.push(handle);
      } else if (action === 2 && live.length > 0) {
        const [handle] = live.splice(random.integer(live.length), 1);
        cache.release(handle!, random.integer(3) > 0);
      } else if (action === 3 && live.length > 0 && random.integer(4) === 0) {
        const handle = live[random.integer(live.length)]!;
        cache.pin(handle);
        pinned.push(handle);
      } else if (action === 4 && pinned.length > 0) cache.unpin(pinned.pop()!);
      const { bytesReserved, bytesRetained, bytesMax, handlesInUse, handlesRetained } = cache.usage();
      assert.ok(bytesReserved + bytesRetained <= bytesMax, `seed ${seed}: bytes`);
      assert.equal(handlesInUse, live.length, `seed ${seed}: live slots`);
      assert.ok(handlesInUse + handlesRetained <= 4, `seed ${seed}: slots`);
    }
  }
});
