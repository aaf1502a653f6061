import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { makeTemporaryFolder, removeTemporaryFolder } from './temporary-folder.ts';

/** Runs with TMPDIR set to what is made of a folder of its own. */
function within(place: (own: string) => string, use: (own: string) => void): void {
  const own = mkdtempSync(join(tmpdir(), 'temporary-'));
  const before = process.env.TMPDIR;
  process.env.TMPDIR = place(own);
  try {
    use(own);
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    rmSync(own, { recursive: true });
  }
}

describe('a temporary folder', { skip: process.platform === 'win32' }, () => {
  test('is its owner’s only, and gone when it is removed', () =>
    within(
      (own) => own,
      (own) => {
        const folder = makeTemporaryFolder('test');
        assert.equal(dirname(folder), own);
        assert.equal(statSync(folder).mode & 0o777, 0o700);
        removeTemporaryFolder(folder);
        removeTemporaryFolder(folder);
        assert.equal(existsSync(folder), false);
      },
    ));

  test('lies elsewhere where TMPDIR cannot be written', () =>
    within(
      (own) => join(own, 'missing'),
      (own) => {
        const folder = makeTemporaryFolder('test');
        assert.notEqual(dirname(dirname(folder)), own);
        removeTemporaryFolder(folder);
      },
    ));

  test('what killed processes of this host left of its kind is swept; what may be alive, or another host’s, is not', () =>
    within(
      (own) => own,
      (own) => {
        const hourAgo = Date.now() / 1000 - 3_600;
        const named = (name: string, isOld = true): string => {
          const folder = join(own, name);
          mkdirSync(folder);
          if (isOld) utimesSync(folder, hourAgo, hourAgo);
          return folder;
        };
        const made = makeTemporaryFolder('test');
        const tag = /-([0-9a-f]{6})-\w+$/.exec(made)?.[1];
        // No process has such a number: Linux counts to 2²².
        const stale = named(`nereid-test-99999999-${tag}-abcdef`);
        const kept = [
          made,
          named(`nereid-test-99999998-${tag}-abcdef`, false),
          named(`nereid-test-${process.ppid}-${tag}-abcdef`),
          named('nereid-test-99999999-zzzzzz-abcdef'),
          named(`nereid-other-99999999-${tag}-abcdef`),
        ];
        const again = makeTemporaryFolder('test');
        assert.deepEqual([stale, ...kept].map(existsSync), [false, true, true, true, true, true]);
        for (const folder of [made, again]) removeTemporaryFolder(folder);
      },
    ));
});
