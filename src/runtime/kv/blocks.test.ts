import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kvOperation } from '../../device/step.ts';
import { type BlockCacheOptions, BlockKvCache } from './blocks.ts';
import type { KvDemand, KvPlace } from './kv-cache.ts';

function text(tokens: readonly number[]) {
  return { length: tokens.length, tokenAt: (position: number) => tokens[position] ?? -1 };
}

const counting = (length: number, first = 0) => text(Array.from({ length }, (_, i) => first + i));

type Text = ReturnType<typeof text>;

function demand(tokens: Text, prefixKey = ''): KvDemand {
  return { prefixKey, tokens, reusableMax: tokens.length - 1, promptLength: tokens.length };
}

let nowMs = 0;

function open(overrides: Partial<BlockCacheOptions> = {}): BlockKvCache {
  const blocks = overrides.blocks ?? 10;
  const options = {
    blocks,
    blockPositions: 4,
    bytesPerPosition: 1,
    prefixReuse: true,
    hostBlocks: 0,
    nowMs: () => nowMs,
  };
  return new BlockKvCache({ ...options, retainedBlocksMax: blocks, ...overrides });
}

/** Takes and writes all blocks of a text. @returns the table */
function write(cache: BlockKvCache, place: KvPlace, tokens: Text, length = tokens.length): number[] {
  const table = new Int32Array(64);
  const count = cache.writeBlocks(place, length, table, 0);
  cache.commit(place, tokens, length);
  return [...table.subarray(0, count)];
}

function retain(cache: BlockKvCache, tokens: Text, key = ''): number[] {
  const place = cache.reserve(demand(tokens, key), tokens.length);
  const table = write(cache, place, tokens);
  cache.release(place, tokens, true);
  return table;
}

function log(cache: BlockKvCache): string[] {
  const names = Object.entries(kvOperation);
  const { count, kinds, from, to, positions } = cache.takeOperations();
  return Array.from({ length: count }, (_, i) => {
    const [name] = names.find(([, kind]) => kind === kinds[i])!;
    return `${name} ${from[i]}>${to[i]} ${positions[i]}`;
  });
}

test('full chunks are shared by reference, a partial one is copied, and the last token is computed', () => {
  const cache = open();
  const table = retain(cache, counting(11));
  assert.deepEqual(table, [0, 1, 2]);
  const next = cache.reserve(demand(text([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77])), 11);
  assert.equal(next.cached, 10);
  assert.deepEqual(write(cache, next, text([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77])), [0, 1, 3]);
  assert.deepEqual(log(cache), ['copy 2>3 2']);
});

test('sharing with a sequence in flight costs nothing, with a retained one its blocks', () => {
  const cache = open();
  retain(cache, counting(9));
  assert.equal(cache.cost(demand(counting(9)), 12), 3);
  cache.reserve(demand(counting(9)), 12);
  assert.equal(cache.unitsFree, 7);
  assert.equal(cache.cost(demand(counting(9)), 12), 1);
});

test('keys do not mix', () => {
  const cache = open();
  retain(cache, counting(9), 'a');
  assert.equal(cache.reserve(demand(counting(9), 'b'), 9).cached, 0);
  assert.equal(cache.reserve(demand(counting(9), 'a'), 9).cached, 8);
});

test('two that compute the same at once share it from then on', () => {
  const cache = open();
  const tokens = counting(8);
  const first = cache.reserve(demand(tokens), 12);
  const second = cache.reserve(demand(tokens), 12);
  assert.deepEqual(write(cache, first, tokens), [0, 1]);
  assert.deepEqual(write(cache, second, tokens), [2, 3]);
  const table = new Int32Array(2);
  cache.writeBlocks(second, 8, table, 0);
  assert.deepEqual([...table], [0, 1]);
  assert.equal(cache.usage().bytesReserved, (2 + 1 + 1) * 4);
});

test('a fork shares full blocks and copies the one that both would write', () => {
  const cache = open({ prefixReuse: false });
  const tokens = counting(10);
  const source = cache.reserve(demand(tokens), 16);
  assert.deepEqual(write(cache, source, tokens), [0, 1, 2]);
  const fork = cache.reserve({ ...demand(tokens), fork: { place: source, length: 9 } }, 16);
  assert.equal(fork.cached, 9);
  assert.deepEqual(write(cache, fork, tokens), [0, 1, 3]);
  assert.deepEqual(log(cache), ['copy 2>3 1']);
  cache.release(source, tokens, false);
  cache.release(fork, tokens, false);
  assert.equal(cache.unitsFree, 10);
});

test('the least recently used goes first, the end of a text before its beginning, low priority before high', () => {
  const cache = open({ blocks: 6 });
  retain(cache, counting(12));
  retain(cache, counting(8, 100));
  const place = cache.reserve(demand(counting(9, 500)), 9);
  write(cache, place, counting(9, 500));
  assert.equal(cache.cost(demand(counting(12)), 12), 3);
  assert.equal(cache.reserve(demand(counting(12)), 12).cached, 4, 'two blocks of the first text went');
  const other = open({ blocks: 4 });
  const precious = counting(8);
  const kept = other.reserve({ ...demand(precious), retention: { ranges: [{ start: 0, priority: 90 }] } }, 8);
  write(other, kept, precious);
  other.release(kept, precious, true);
  retain(other, counting(8, 100));
  retain(other, counting(8, 200));
  assert.equal(other.reserve(demand(counting(9)), 9).cached, 8);
});

test('each block is as dear as its first position, for as long as was said, and whoever uses it again may say otherwise', () => {
  const cache = open({ blocks: 4 });
  const first = counting(12);
  const ranges = [{ start: 0, end: 4, priority: 80, durationMs: 100 }];
  const place = cache.reserve(
    { ...demand(first), promptLength: 8, retention: { ranges, decode: { priority: 10 } } },
    12,
  );
  write(cache, place, first);
  cache.release(place, first, true);
  const cached = (tokens: Text) => {
    const probe = cache.reserve(demand(tokens), tokens.length);
    cache.release(probe, tokens, true);
    return probe.cached;
  };
  retain(cache, counting(8, 100));
  const longer = text([...Array(12).keys(), 99]);
  assert.equal(cached(longer), 8, 'what it made itself went first');
  retain(cache, counting(12, 200));
  assert.equal(cached(first), 4, 'the beginning stays');
  nowMs = 200;
  retain(cache, counting(12, 300));
  retain(cache, counting(16, 400));
  assert.equal(cached(first), 0, 'its time is over');
  nowMs = 0;
});

test('what the device gives up comes back from the host', () => {
  const cache = open({ blocks: 3, hostBlocks: 4 });
  retain(cache, counting(9));
  retain(cache, counting(12, 100));
  assert.ok(log(cache).every((line) => line.startsWith('toHost')));
  assert.equal(cache.usage().hostBytesUsed, 2 * 4);
  const back = cache.reserve(demand(counting(9)), 9);
  assert.equal(back.cached, 8);
  const lines = log(cache);
  assert.equal(lines.filter((line) => line.startsWith('fromHost')).length, 2);
  cache.release(back, counting(9), true);
  cache.releaseRetained();
  assert.deepEqual([cache.unitsFree, cache.usage().hostBytesUsed], [3, 0]);
});

test('a sequence takes no more than it was promised, and what it was promised is there', () => {
  const cache = open({ blocks: 4 });
  retain(cache, counting(16));
  const place = cache.reserve(demand(counting(4, 900)), 8);
  assert.equal(cache.unitsFree, 2);
  const table = new Int32Array(8);
  assert.equal(cache.writeBlocks(place, 8, table, 0), 2);
  assert.throws(() => cache.writeBlocks(place, 9, table, 0), /no more blocks than it was promised/);
  assert.equal(cache.append(place, 16), true);
  assert.equal(cache.append(place, 17), false);
  assert.equal(cache.growth(place, 17), 1);
  assert.equal(cache.held(place), 4);
});

test('changes name each full chunk once as stored and once as removed', () => {
  const cache = open({ blocks: 4 });
  retain(cache, counting(16));
  const stored = cache.takeChanges()!.stored;
  assert.equal(new Set(stored).size, 4);
  assert.equal(cache.takeChanges(), undefined);
  cache.releaseRetained();
  assert.deepEqual(cache.takeChanges()!.removed.toSorted(), stored.toSorted());
});

test('finding a prompt costs its own length, whatever the cache holds', () => {
  const cache = open({ blocks: 20_000, blockPositions: 16 });
  for (let i = 0; i < 1000; i++) retain(cache, text([...Array(64).keys(), 1000 + i, ...Array(200).fill(i)]));
  let looked = 0;
  const probe = {
    length: 300,
    tokenAt(at: number): number {
      looked++;
      return at < 64 ? at : 5;
    },
  };
  assert.equal(cache.reserve(demand(probe), 300).cached, 64);
  // Each token of the match is hashed and compared, and those of one chunk more for a partial match.
  assert.ok(looked < 64 * 3 + 16 * 20, `${looked} tokens were looked at`);
});
