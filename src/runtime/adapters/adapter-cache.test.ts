import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { AdapterTable, type AdapterTensors } from '../../device/adapters.ts';
import type { AdapterReference } from '../requests/request.ts';
import { AdapterCache, adapterOvertakesMax } from './adapter-cache.ts';
import type { AdapterLease } from './adapter-lease.ts';

const bytesOfOne = 64;

/** An adapter whose path says its rank: 'a/8'. */
function tensorsOf(path: string): AdapterTensors {
  const digest = Buffer.from(path).toString('hex').padEnd(64, '0');
  return { digest, rank: Number(path.split('/')[1]), parts: [], byteLength: bytesOfOne };
}

interface Options {
  slots?: number;
  rankRows?: number;
  hostBytesMax?: number;
}

function open({ slots = 2, rankRows = 64, hostBytesMax = 100 * bytesOfOne }: Options = {}) {
  const table = new AdapterTable({ slots, rankMax: 32, rankRows });
  const reads: string[] = [];
  const load = async (path: string): Promise<AdapterTensors> => {
    reads.push(path);
    await turn();
    return tensorsOf(path);
  };
  const cache = new AdapterCache({ slots: table, load, hostBytesMax });
  const add = async (path: string, isTransient = false): Promise<AdapterReference> => {
    const { name, digest } = await cache.load({ name: path, path, ...(isTransient && { isTransient }) });
    return { name, digest };
  };
  return { cache, table, reads, add };
}

/** Whether a lease is ready once everything that was under way is done. */
async function settled(lease: AdapterLease): Promise<boolean> {
  for (let i = 0; i < 5; i++) await turn();
  return lease.isReady;
}

test('adapters stay on the device until their place is needed, the least recently used goes first', async () => {
  const { cache, add } = open();
  const [a, b, c] = [await add('a/8'), await add('b/8'), await add('c/8')];
  const use = (one: AdapterReference): number => {
    const lease = cache.lease(one);
    assert.ok(lease.isReady);
    const { slot } = lease;
    lease.release();
    return slot;
  };
  const slotOfA = use(a);
  const slotOfB = use(b);
  assert.notEqual(slotOfA, slotOfB);
  assert.equal(use(a), slotOfA);
  assert.equal(use(c), slotOfB);
  assert.equal(use(a), slotOfA);
  assert.deepEqual(cache.usage(), { loaded: 3, onDevice: 2, hostBytes: 3 * bytesOfOne, waiting: 0 });
});

test('what requests run with is never evicted: others wait, in order of arrival', async () => {
  const { cache, add } = open({ slots: 1 });
  const [a, b, c] = [await add('a/8'), await add('b/8'), await add('c/8')];
  const first = cache.lease(a);
  const second = cache.lease(b);
  const third = cache.lease(c);
  const ready: string[] = [];
  second.onReady(() => ready.push('b'));
  third.onReady(() => ready.push('c'));
  assert.deepEqual([first.isReady, second.isReady, third.isReady], [true, false, false]);
  assert.equal(cache.usage().waiting, 2);
  first.release();
  assert.deepEqual(ready, ['b']);
  first.release();
  assert.deepEqual(ready, ['b']);
  second.release();
  assert.deepEqual(ready, ['b', 'c']);
});

test('a request that ends while it waits leaves the queue', async () => {
  const { cache, add } = open({ slots: 1 });
  const [a, b] = [await add('a/8'), await add('b/8')];
  const first = cache.lease(a);
  const second = cache.lease(b);
  second.onReady(() => assert.fail('it was cancelled'));
  second.release();
  first.release();
  assert.equal(cache.usage().waiting, 0);
});

test(`at most ${adapterOvertakesMax} requests overtake one that waits for a place`, async () => {
  const { cache, add } = open({ slots: 1 });
  const [a, b] = [await add('a/8'), await add('b/8')];
  const running = [cache.lease(a)];
  const waiting = cache.lease(b);
  for (let i = 0; i < adapterOvertakesMax; i++) {
    running.push(cache.lease(a));
    assert.ok(running.at(-1)!.isReady);
  }
  const late = cache.lease(a);
  assert.ok(!late.isReady);
  for (const lease of running) lease.release();
  assert.ok(waiting.isReady);
  assert.ok(!late.isReady);
  waiting.release();
  assert.ok(late.isReady);
});

test('ranks count: what does not fit beside the others waits, what never fits is refused', async () => {
  const { cache, add } = open({ slots: 4, rankRows: 24 });
  const [a, b] = [await add('a/16'), await add('b/9')];
  const first = cache.lease(a);
  const second = cache.lease(b);
  assert.ok(!second.isReady);
  first.release();
  assert.ok(second.isReady);
  await assert.rejects(add('c/33'), {
    code: 'ADAPTER_TOO_LARGE',
    message: /rank 33.*up to 32.*--max-lora-rank/,
  });
  await assert.rejects(add('d/32'), { code: 'ADAPTER_TOO_LARGE', message: /--lora-device-cache-size/ });
});

test('host memory is bounded: idle adapters leave it and are read again; those that clients send are forgotten', async () => {
  const { cache, add, reads } = open({ hostBytesMax: 2 * bytesOfOne });
  const [a, b] = [await add('a/8'), await add('b/8', true)];
  await add('c/8');
  const lease = cache.lease(a);
  assert.ok(!lease.isReady);
  assert.ok(await settled(lease));
  assert.deepEqual(reads, ['a/8', 'b/8', 'c/8', 'a/8']);
  assert.deepEqual(
    cache.list().map(({ name }) => name),
    ['a/8', 'c/8'],
  );
  assert.throws(() => cache.lease(b), { code: 'ADAPTER_NOT_FOUND' });
  assert.equal(cache.usage().hostBytes, 2 * bytesOfOne);
  const other = cache.lease(await add('d/8'));
  assert.ok(other.isReady);
  await assert.rejects(add('e/8'), { code: 'ADAPTER_CACHE_FULL' });
  lease.release();
  await add('e/8');
});

test('an adapter whose files are read holds nobody back', async () => {
  const { cache, add } = open({ slots: 2, hostBytesMax: bytesOfOne });
  const [a, b] = [await add('a/8'), await add('b/8')];
  const reading = cache.lease(a);
  const there = cache.lease(b);
  assert.ok(!reading.isReady);
  assert.ok(there.isReady);
  assert.ok(await settled(reading));
});

test('a name given anew leaves the old one to those who run with it', async () => {
  const { cache, table, add } = open();
  const old = await add('a/8');
  const lease = cache.lease(old);
  const { digest } = await cache.load({ name: 'a/8', path: 'other/8' });
  assert.notEqual(digest, old.digest);
  assert.ok(cache.lease(old).isReady);
  cache.lease(old).release();
  assert.equal(cache.list().length, 1);
  await cache.unload('a/8');
  assert.deepEqual(cache.list(), []);
  assert.throws(() => cache.lease({ name: 'a/8', digest }), { code: 'ADAPTER_NOT_FOUND' });
  assert.ok(table.has(lease.slot));
  await assert.rejects(cache.unload('a/8'), { code: 'ADAPTER_NOT_FOUND' });
});

test('names and files that changed are refused', async () => {
  const { cache } = open();
  await assert.rejects(cache.load({ name: 'a b', path: 'a/8' }), { code: 'ADAPTER_INVALID' });
  let rank = 8;
  const slots = new AdapterTable({ slots: 1, rankMax: 32, rankRows: 32 });
  const changing = new AdapterCache({
    slots,
    load: async (path) => tensorsOf(`${path}/${rank}`),
    hostBytesMax: bytesOfOne,
  });
  const { name, digest } = await changing.load({ name: 'a', path: 'a' });
  await changing.load({ name: 'b', path: 'b' });
  rank = 9;
  const lease = changing.lease({ name, digest });
  const failed = new Promise((resolve) => lease.onReady(resolve));
  assert.match(String(await failed), /changed since it was loaded/);
});
