import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { FileStore, readRows } from './file-segment.ts';
import { memoryStore } from './memory-segment.ts';
import type { OutputRoom, OutputStore } from './output-store.ts';

function asked(store: OutputStore, requestId: number, bytes: number): OutputRoom {
  const room = store.open(requestId, bytes);
  room.ask();
  return room;
}

const values = (...all: number[]): Float32Array => Float32Array.from(all);

test('a request whose rows find no room waits for those before it, and is not overtaken', () => {
  const store = memoryStore(100);
  const granted: string[] = [];
  const open = (name: string, bytes: number) => {
    const room = store.open(granted.length, bytes);
    room.onReady(() => granted.push(name));
    room.ask();
    return room;
  };
  const first = open('first', 80);
  const large = open('large', 60);
  const small = open('small', 20);
  assert.deepEqual(granted, ['first']);
  first.release();
  assert.deepEqual(granted, ['first', 'large', 'small']);
  assert.equal(store.bytesTaken, 80);
  large.release();
  large.release();
  small.release();
  assert.equal(store.bytesTaken, 0);
});

test('one that gives up lets those behind it in', () => {
  const store = memoryStore(100);
  const first = asked(store, 1, 50);
  const large = asked(store, 2, 80);
  const small = asked(store, 3, 50);
  assert.deepEqual([first.isReady, large.isReady, small.isReady], [true, false, false]);
  large.release();
  assert.ok(small.isReady);
});

test('rows in memory are read as they were written; those of an ended request go nowhere', () => {
  const room = asked(memoryStore(64), 1, 32);
  room.write(8, values(1, 2));
  room.write(16, values(3, 4));
  assert.deepEqual(room.read(8, 2, 2), { rows: 2, width: 2, values: values(1, 2, 3, 4) });
  room.release();
  room.write(8, values(9, 9));
});

test('rows in files keep their room until their reader says that it has them; then they are gone', async (t) => {
  const store = new FileStore(64);
  t.after(() => store.close());
  const room = asked(store, 7, 32);
  room.write(0, values(1, 2));
  room.write(8, values(3, 4));
  const reference = room.read(8, 1, 2);
  assert.ok('path' in reference);
  room.release();
  assert.equal(store.bytesTaken, 32);
  assert.deepEqual(await readRows(reference), { rows: 1, width: 2, values: values(3, 4) });
  store.settle(8);
  assert.equal(store.bytesTaken, 32);
  store.settle(7);
  assert.equal(store.bytesTaken, 0);
  assert.equal(existsSync(reference.path), false);
  await assert.rejects(readRows(reference), { code: 'OUTPUTS_UNREADABLE' });
});

test('rows that nobody was told of are gone with their request', (t) => {
  const store = new FileStore(64);
  t.after(() => store.close());
  const room = asked(store, 1, 32);
  room.write(0, values(1));
  room.release();
  assert.equal(store.bytesTaken, 0);
});

test('where a file cannot be written, the request hears of it', (t) => {
  const store = new FileStore(64);
  t.after(() => store.close());
  const room = asked(store, 1, 8);
  const taken = asked(store, 1, 8);
  room.write(0, values(1));
  // Its file is there already: what fails to open fails to be written.
  assert.throws(() => taken.write(0, values(1)), { code: 'OUTPUTS_UNWRITABLE' });
});
