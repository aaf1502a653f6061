import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Cache, cacheRoot } from './cache.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-cache-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('the root is NEREID_CACHE, else a folder in the XDG cache', () => {
  assert.equal(cacheRoot({ NEREID_CACHE: '/a' }), '/a');
  assert.equal(cacheRoot({ XDG_CACHE_HOME: '/b' }), '/b/nereid');
  assert.match(cacheRoot({}), /\.cache\/nereid$/);
});

test('hashes are remembered by size and times, and a changed file is hashed anew', async () => {
  const cache = new Cache(join(folder, 'a'));
  const path = join(folder, 'file');
  writeFileSync(path, 'one');
  let hashed = 0;
  const count = { onBytes: () => hashed++ };
  const first = await cache.sha256(path, count);
  assert.equal(await cache.sha256(path, count), first);
  assert.equal(hashed, 1);
  writeFileSync(path, 'two!');
  assert.notEqual(await cache.sha256(path, count), first);
  assert.equal(hashed, 2);
});

test('a damaged memory of hashes is ignored', async () => {
  const cache = new Cache(join(folder, 'b'));
  const path = join(folder, 'file-b');
  writeFileSync(path, 'x');
  const first = await cache.sha256(path);
  writeFileSync(join(cache.root, 'hashes.json'), '{"broken');
  assert.equal(await cache.sha256(path), first);
  assert.match(readFileSync(join(cache.root, 'hashes.json'), 'utf8'), new RegExp(first));
});

test('pruning removes the engines that were unused longest', async () => {
  const cache = new Cache(join(folder, 'c'));
  for (const [index, name] of ['old', 'middle', 'new'].entries()) {
    const engine = cache.engineFolder(name, '0123456789abcdef00');
    mkdirSync(engine, { recursive: true });
    writeFileSync(join(engine, 'rank0.gguf'), Buffer.alloc(1000));
    writeFileSync(join(engine, 'engine.json'), '{}');
    utimesSync(join(engine, 'engine.json'), index, index);
  }
  cache.touch(join(cache.engineFolder('old', '0123456789abcdef00'), 'engine.json'));
  const removed = await cache.pruneEngines(2100);
  assert.deepEqual(removed, [cache.engineFolder('middle', '0123456789abcdef00')]);
  assert.equal((await cache.pruneEngines(0)).length, 2);
});

test('an unwritable root is an error with the fix', {
  skip: process.getuid?.() === 0 && 'root may write anywhere',
}, async () => {
  const locked = join(folder, 'locked');
  mkdirSync(locked);
  chmodSync(locked, 0o500);
  const cache = new Cache(join(locked, 'cache'));
  assert.equal(cache.writable, false);
  await assert.rejects(cache.makeFolder(cache.root), /set NEREID_CACHE/);
});
