import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import { definite } from '../base/errors.ts';
import { verifyEngine } from '../builder/engine-folder.ts';
import { ownerOf } from '../builder/lock-owner.ts';
import { Cache } from './cache.ts';
import { ensureEngine } from './resolver.ts';

const skip = skipWithout('models/stories260K');
const folder = mkdtempSync(join(tmpdir(), 'nereid-ensure-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const stories = sharedPath('models/stories260K');
const cache = new Cache(join(folder, 'cache'));

test('an engine is built once, and again for another recipe', { skip }, async () => {
  const first = await ensureEngine(stories, { cache });
  assert.equal(first.built, true);
  assert.equal(first.name, 'stories260K');
  const second = await ensureEngine(stories, { cache });
  assert.deepEqual([second.built, second.folder], [false, first.folder]);
  const other = await ensureEngine(stories, { cache, recipe: { dtype: 'q8_0' } });
  assert.equal(other.built, true);
  assert.notEqual(other.folder, first.folder);
});

test('the same contents elsewhere share an engine; other contents do not', { skip }, async () => {
  const source = join(stories, 'stories260K-f32.gguf');
  const copy = join(folder, 'stories260K-f32.gguf');
  writeFileSync(copy, readFileSync(source));
  const first = await ensureEngine(source, { cache });
  assert.equal((await ensureEngine(copy, { cache })).folder, first.folder);
  const bytes = readFileSync(copy);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  rmSync(copy);
  writeFileSync(copy, bytes);
  const other = await ensureEngine(copy, { cache });
  assert.equal(other.built, true);
  assert.notEqual(other.folder, first.folder);
});

test('a damaged engine in the cache is built again', { skip }, async () => {
  const { folder: engine } = await ensureEngine(stories, { cache });
  truncateSync(join(engine, 'rank0.gguf'), 1000);
  const again = await ensureEngine(stories, { cache });
  assert.deepEqual([again.built, again.folder], [true, engine]);
  await verifyEngine(engine);
});

test('an engine folder is taken as it is', { skip }, async () => {
  const { folder: engine } = await ensureEngine(stories, { cache });
  const found = await ensureEngine(engine, { cache });
  assert.deepEqual(found, { folder: engine, name: 'stories260K', built: false, notes: [] });
});

test('several at once build it once and all get it', { skip }, async () => {
  const shared = new Cache(join(folder, 'shared'));
  const notes: string[] = [];
  const reporter = { start() {}, advance() {}, finish() {}, note: (line: string) => notes.push(line) };
  const all = await Promise.all([1, 2, 3].map(() => ensureEngine(stories, { cache: shared, reporter })));
  assert.equal(new Set(all.map((engine) => engine.folder)).size, 1);
  assert.equal(all.filter((engine) => engine.built).length, 1, notes.join('\n'));
  assert.equal(readdirSync(join(shared.root, 'engines')).length, 1);
});

test('a builder that is killed while another waits for it is replaced by that one', { skip }, async () => {
  const { folder: engine } = await ensureEngine(stories, { cache });
  rmSync(engine, { recursive: true });
  const other = spawn(process.execPath, ['-e', 'process.stdin.resume()'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  await once(other, 'spawn');
  writeFileSync(`${engine}.lock`, JSON.stringify(ownerOf(definite(other.pid, 'its id'))));
  const notes: string[] = [];
  const note = (line: string) => {
    notes.push(line);
    if (line.startsWith('Waiting')) other.kill('SIGKILL');
  };
  const reporter = { start() {}, advance() {}, finish() {}, note };
  const again = await ensureEngine(stories, { cache, reporter });
  assert.deepEqual([again.built, again.folder], [true, engine]);
  assert.ok(notes.some((line) => line.includes(`process ${other.pid} is building`)));
});
