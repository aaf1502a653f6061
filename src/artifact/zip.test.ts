import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { zipOf } from '../../test/support/zip.ts';
import { unzipEntry } from './zip.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-zip-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const target = join(folder, 'out');

function write(bytes: Buffer): string {
  const path = join(folder, 'a.whl');
  writeFileSync(path, bytes);
  return path;
}

const text = Buffer.from('weights '.repeat(10_000));

test('takes one entry out, stored or deflated, and counts its bytes', async () => {
  for (const method of ['stored', 'deflated'] as const) {
    const archive = write(zipOf({ 'a/readme': Buffer.from('x'), 'a/model.gguf': text }, method));
    let seen = 0;
    await unzipEntry(archive, 'a/model.gguf', target, (bytes) => {
      seen += bytes;
    });
    assert.deepEqual(readFileSync(target), text);
    assert.equal(seen, text.length);
  }
});

test('refuses what is no archive, lacks the entry, is cut short or lies about sizes', async () => {
  const good = zipOf({ 'a/model.gguf': text }, 'deflated');
  await assert.rejects(unzipEntry(write(good), 'a/other', target), /no entry 'a\/other'/);
  await assert.rejects(unzipEntry(write(Buffer.from('no zip at all')), 'x', target), {
    code: 'ARCHIVE_INVALID',
  });
  await assert.rejects(unzipEntry(write(good.subarray(0, good.length - 30)), 'a/model.gguf', target), {
    code: 'ARCHIVE_INVALID',
  });
  for (const wrong of [text.length - 1, text.length + 1]) {
    const lying = zipOf({ 'a/model.gguf': text }, 'deflated', wrong);
    await assert.rejects(unzipEntry(write(lying), 'a/model.gguf', target), { code: 'ARCHIVE_INVALID' });
  }
});

test('an entry that does not unpack is a damaged archive, in our words', async () => {
  const archive = zipOf({ 'a/model.gguf': text }, 'deflated');
  archive.fill(0xff, 60, 90);
  await assert.rejects(unzipEntry(write(archive), 'a/model.gguf', target), {
    code: 'ARCHIVE_INVALID',
    message: /does not unpack \(Z_DATA_ERROR\).*download it again/,
  });
});
