import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { RepositoryError } from '../../repository/errors.ts';
import { SharedMemory, sharedMemoryRegionsMax } from './shared-memory.ts';

const key = `nereid-test-${process.pid}`;
const path = `/dev/shm/${key}`;
const hasSharedMemory = existsSync('/dev/shm');

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof RepositoryError);
    return `${error.status} ${error.message}`;
  }
  return 'none';
}

test('system shared memory', {
  skip: !hasSharedMemory && 'this machine has no /dev/shm',
}, async (context) => {
  writeFileSync(path, Buffer.alloc(64));
  context.after(() => rmSync(path, { force: true }));
  const memory = new SharedMemory();
  memory.register('a', `/${key}`, 16, 32);

  await context.test('writes and reads lie at the region’s offset', () => {
    memory.write({ region: 'a', offset: 8, byteSize: 8 }, Uint8Array.of(1, 2, 3));
    assert.deepEqual([...readFileSync(path).subarray(24, 28)], [1, 2, 3, 0]);
    assert.deepEqual([...memory.read({ region: 'a', offset: 8, byteSize: 4 })], [1, 2, 3, 0]);
    assert.deepEqual(memory.status(''), [{ name: 'a', key: `/${key}`, offset: 16, byte_size: 32 }]);
  });

  await context.test('ranges outside the region are refused', () => {
    const read = (offset: number, byteSize: number) =>
      refusal(() => memory.read({ region: 'a', offset, byteSize }));
    assert.match(read(32, 1), /INVALID_ARGUMENT Invalid offset for shared memory region: 'a'/);
    assert.match(read(-1, 1), /Invalid offset for/);
    assert.match(read(Number.NaN, 1), /Invalid offset for/);
    for (const size of [0, -1, 33, Number.NaN, 2 ** 60])
      assert.match(read(0, size), /Invalid offset \+ byte size/);
    assert.match(read(2 ** 64, 8), /Invalid offset/);
    assert.match(
      refusal(() => memory.read({ region: 'b', offset: 0, byteSize: 1 })),
      /NOT_FOUND Unable to find/,
    );
  });

  await context.test('keys that are no shared memory are refused', () => {
    for (const bad of ['', '/', '..', '/../etc/passwd', 'a/b', 'no\0', '/nereid-there-is-none']) {
      assert.match(
        refusal(() => memory.register('b', bad, 0, 8)),
        /INTERNAL Unable to open/,
        bad,
      );
    }
    for (const [offset, size] of [
      [0, 65],
      [60, 8],
      [0, 0],
      [-1, 8],
      [2 ** 64, 8],
    ] as const) {
      assert.match(
        refusal(() => memory.register('b', key, offset, size)),
        /INTERNAL Invalid shared memory region/,
      );
    }
    assert.match(
      refusal(() => memory.register('a', key, 0, 8)),
      /ALREADY_EXISTS .*'a' already in manager/,
    );
  });

  await context.test('an object that was cut is noticed, and not lengthened', () => {
    truncateSync(path, 20);
    assert.match(
      refusal(() => memory.read({ region: 'a', offset: 0, byteSize: 8 })),
      /INTERNAL .* shorter/,
    );
    assert.match(
      refusal(() => memory.write({ region: 'a', offset: 0, byteSize: 8 }, new Uint8Array(8))),
      /shorter/,
    );
    assert.equal(readFileSync(path).length, 20);
  });

  await context.test('regions are bounded, and unregistering gives the descriptors back', () => {
    const before = memory.status('').length;
    for (let i = before; i < sharedMemoryRegionsMax; i++) memory.register(`r${i}`, key, 0, 8);
    assert.match(
      refusal(() => memory.register('more', key, 0, 8)),
      /UNAVAILABLE .* unregister some/,
    );
    memory.unregister('r5');
    memory.register('more', key, 0, 8);
    memory.unregister('');
    assert.deepEqual(memory.status(''), []);
  });
});
