import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MemoryMap, pageBytes } from './memory.ts';

test('anonymous memory is zero, keeps what is written, and is zero again where discarded', () => {
  const map = MemoryMap.anonymous(4 * pageBytes, 'a test');
  const bytes = new Uint8Array(map.view(0, 4 * pageBytes));
  assert.equal(
    bytes.reduce((sum, byte) => sum + byte, 0),
    0,
  );
  bytes.fill(7);
  map.copy(0, 2 * pageBytes, 16);
  map.discard(pageBytes, pageBytes);
  assert.equal(bytes[pageBytes - 1], 7);
  assert.equal(bytes[pageBytes], 0);
  assert.equal(bytes[2 * pageBytes], 7);
  map.close();
  map.close();
});

test('discarding gives back only whole pages inside the range', () => {
  const map = MemoryMap.anonymous(2 * pageBytes, 'a test');
  const bytes = new Uint8Array(map.view(0, 2 * pageBytes)).fill(7);
  map.discard(1, 2 * pageBytes - 2);
  assert.equal(bytes[0], 7);
  assert.equal(bytes[pageBytes + 1], 7);
  map.close();
});

test('a file is mapped as it is, and refused when it is shorter than its tensors', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-memory-'));
  try {
    const path = join(folder, 'weights');
    writeFileSync(
      path,
      Uint8Array.from({ length: 100 }, (_, i) => i),
    );
    const map = MemoryMap.file(path, 100);
    assert.equal(new Uint8Array(map.view(0, 100))[99], 99);
    assert.throws(() => map.view(50, 51), /inside its memory map/);
    map.close();
    assert.throws(() => MemoryMap.file(path, 101), {
      code: 'DEVICE_WEIGHT_INVALID',
      message: /its tensors end at 101/,
    });
    assert.throws(() => MemoryMap.file(join(folder, 'none'), 1), { code: 'DEVICE_WEIGHT_MISSING' });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
