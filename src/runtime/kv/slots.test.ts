import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { kvOperation } from '../../device/step.ts';
import type { KvDemand, KvPlace } from './kv-cache.ts';
import { prefixCopyPositionsMin, SlotKvCache } from './slots.ts';

/** A text whose tokens can be looked at. */
function text(tokens: readonly number[]) {
  return { length: tokens.length, tokenAt: (position: number) => tokens[position] ?? -1 };
}

const counting = (length: number, first = 0) => text(Array.from({ length }, (_, i) => first + i));

type Text = ReturnType<typeof text>;

function demand(tokens: Text, prefixKey = '', reusableMax = tokens.length - 1): KvDemand {
  return { prefixKey, tokens, reusableMax, promptLength: tokens.length };
}

function open(overrides: { slots?: number; positionsMax?: number; retainedPositionsMax?: number } = {}) {
  const positionsMax = overrides.positionsMax ?? 400;
  const options = { slots: 4, positionsMax, bytesPerPosition: 1, prefixReuse: true, nowMs: () => 0 };
  return new SlotKvCache({ ...options, retainedPositionsMax: positionsMax, ...overrides });
}

/** What was done to slots since the last call. */
function log(cache: SlotKvCache): string[] {
  const { count, kinds, from, to, positions } = cache.takeOperations();
  return Array.from({ length: count }, (_, i) =>
    kinds[i] === kvOperation.copy ? `copy ${from[i]}>${to[i]} ${positions[i]}` : `release ${from[i]}`,
  );
}

function slotOf(cache: SlotKvCache, place: KvPlace): number {
  const blocks = new Int32Array(1);
  cache.writeBlocks(place, 1, blocks, 0);
  return blocks[0]!;
}

/** Reserves, writes and retains a text. */
function retain(cache: SlotKvCache, tokens: Text, key = ''): number {
  const place = cache.reserve(demand(tokens, key), tokens.length);
  const slot = slotOf(cache, place);
  cache.commit(place, tokens, tokens.length);
  cache.release(place, tokens, true);
  return slot;
}

test('the longest prefix of the same key is reused, from a named minimum on', () => {
  const cache = open();
  retain(cache, counting(20));
  retain(cache, text([...Array(60).keys()]));
  assert.equal(cache.reserve(demand(counting(45)), 45).cached, 44, 'mid-chunk');
  assert.equal(cache.reserve(demand(counting(40), 'other'), 40).cached, 0);
  assert.equal(cache.reserve(demand(counting(40), '', prefixCopyPositionsMin - 1), 40).cached, 0);
});

test('only committed positions are found', () => {
  const cache = open();
  const long = counting(60);
  const place = cache.reserve(demand(long), 60);
  assert.equal(cache.reserve(demand(counting(50)), 50).cached, 0);
  cache.commit(place, long, 32);
  assert.equal(cache.reserve(demand(counting(50)), 50).cached, 32);
  assert.throws(() => cache.commit(place, long, 61), /inside its room/);
});

test('a retained slot is taken over when most of it matches, copied when little does', () => {
  const cache = open();
  const first = retain(cache, counting(80));
  const whole = cache.reserve(demand(counting(75)), 100);
  assert.deepEqual([slotOf(cache, whole), whole.cached, log(cache)], [first, 74, []]);
  cache.commit(whole, counting(75), 75);
  cache.release(whole, counting(75), true);
  const branch = text([...Array(20).keys(), 900, 901]);
  const copied = cache.reserve(demand(branch), 30);
  assert.equal(copied.cached, 20);
  assert.deepEqual(log(cache), [`copy ${first}>${slotOf(cache, copied)} 20`]);
});

test('a live slot is copied and stays as it is', () => {
  const cache = open();
  const tokens = counting(64);
  const source = cache.reserve(demand(tokens), 64);
  cache.commit(source, tokens, 64);
  const fork = cache.reserve({ ...demand(counting(10)), fork: { place: source, length: 7 } }, 20);
  assert.deepEqual(
    [fork.cached, log(cache)],
    [7, [`copy ${slotOf(cache, source)}>${slotOf(cache, fork)} 7`]],
  );
});

test('the least recently used goes first, and only when room is needed', () => {
  const cache = open({ slots: 3, positionsMax: 150 });
  const old = retain(cache, counting(50));
  const young = retain(cache, counting(50, 100));
  cache.reserve(demand(counting(20, 500)), 20);
  assert.deepEqual(log(cache), [], 'there is room beside them');
  cache.reserve(demand(counting(60, 600)), 60);
  assert.deepEqual(log(cache), [`release ${old}`]);
  cache.reserve(demand(counting(60, 700)), 60);
  assert.deepEqual(log(cache), [`release ${young}`]);
  assert.equal(cache.unitsFree, 0, 'positions are left, but no slot is');
});

test('what is retained keeps to its own limit, and goes when it is told to', () => {
  const cache = open({ retainedPositionsMax: 100 });
  retain(cache, counting(60));
  retain(cache, counting(60, 100));
  assert.equal(cache.usage().bytesRetained, 60);
  retain(cache, counting(101, 300));
  assert.equal(cache.usage().bytesRetained, 60, 'too long to be kept at all');
  cache.releaseRetained();
  assert.equal(cache.usage().bytesRetained, 0);
});

test('seeded: bytes are never over, a prefix is always the right one, everything comes back', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = new SeededRandom(seed);
    const cache = open({ slots: 5, positionsMax: 300, retainedPositionsMax: random.integer(300) });
    const stems = [0, 1, 2].map(() => Array.from({ length: 48 }, () => random.integer(4)));
    const contents = new Map<number, number[]>();
    const live: { place: KvPlace; tokens: number[]; slot: number }[] = [];
    const apply = () => {
      const { count, kinds, from, to, positions } = cache.takeOperations();
      for (let i = 0; i < count; i++) {
        if (kinds[i] === kvOperation.release) contents.delete(from[i]!);
        else contents.set(to[i]!, contents.get(from[i]!)!.slice(0, positions[i]));
      }
    };
    for (let step = 0; step < 200; step++) {
      if (live.length > 0 && random.integer(2) === 0) {
        const [one] = live.splice(random.integer(live.length), 1);
        cache.release(one!.place, text(one!.tokens), random.integer(4) > 0);
      } else {
        const stem = stems[random.integer(3)]!.slice(0, random.integer(49));
        const tokens = [...stem, ...Array.from({ length: 1 + random.integer(20) }, () => random.integer(4))];
        if (cache.cost(demand(text(tokens)), tokens.length) > cache.unitsFree || live.length === 5) continue;
        const place = cache.reserve(demand(text(tokens)), tokens.length);
        apply();
        const slot = slotOf(cache, place);
        const held = contents.get(slot)?.slice(0, place.cached) ?? [];
        assert.deepEqual(held, tokens.slice(0, place.cached), `seed ${seed}, step ${step}`);
        contents.set(slot, tokens);
        cache.commit(place, text(tokens), tokens.length);
        live.push({ place, tokens, slot });
      }
      apply();
      const { bytesReserved, bytesRetained } = cache.usage();
      assert.ok(bytesReserved + bytesRetained <= 300, `seed ${seed}`);
    }
    for (const { place, tokens } of live) cache.release(place, text(tokens), false);
    cache.releaseRetained();
    apply();
    assert.deepEqual([contents.size, cache.unitsFree], [0, 300], `seed ${seed}`);
  }
});
