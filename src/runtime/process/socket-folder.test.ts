import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SocketFolder, socketPathBytesMax } from './socket-folder.ts';

/** Runs with these variables, in a folder of its own. */
async function within(
  variables: (own: string) => Record<string, string | undefined>,
  use: (own: string) => void | Promise<void>,
): Promise<void> {
  const own = mkdtempSync(join(tmpdir(), 'sockets-'));
  const before = { TMPDIR: process.env.TMPDIR, XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR };
  const set = (values: Record<string, string | undefined>): void => {
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
  set(variables(own));
  try {
    await use(own);
  } finally {
    set(before);
    rmSync(own, { recursive: true });
  }
}

describe('the folder of an engine’s socket', { skip: process.platform === 'win32' }, () => {
  test('lies in the temporary folder, for its owner only, and is gone after removal', () =>
    within(
      (own) => ({ TMPDIR: own }),
      (own) => {
        const folder = new SocketFolder();
        assert.equal(dirname(dirname(folder.socketPath)), own);
        assert.equal(statSync(dirname(folder.socketPath)).mode & 0o777, 0o700);
        folder.remove();
        assert.equal(existsSync(dirname(folder.socketPath)), false);
      },
    ));

  test('where that path is too long or cannot be written, it lies elsewhere', () =>
    within(
      (own) => ({ TMPDIR: join(own, 'x'.repeat(90)), XDG_RUNTIME_DIR: own }),
      (own) => {
        mkdirSync(process.env.TMPDIR as string);
        for (const temporary of [process.env.TMPDIR, join(own, 'missing'), '/proc']) {
          process.env.TMPDIR = temporary;
          const folder = new SocketFolder();
          assert.ok(Buffer.byteLength(folder.socketPath) <= socketPathBytesMax);
          assert.equal(dirname(dirname(folder.socketPath)), own);
          folder.remove();
        }
      },
    ));

  test('what killed servers left behind is swept; what may be alive is not', () =>
    within(
      (own) => ({ TMPDIR: own }),
      async (own) => {
        const hourAgo = Date.now() / 1000 - 3_600;
        const make = (name: string, isOld: boolean): string => {
          const folder = join(own, name);
          mkdirSync(folder);
          writeFileSync(join(folder, 'engine.sock'), '');
          if (isOld) utimesSync(folder, hourAgo, hourAgo);
          return folder;
        };
        // No process has such a number: Linux counts to 2²².
        const stale = make('nereid-99999999-abcdef', true);
        const young = make('nereid-99999998-abcdef', false);
        const living = make(`nereid-${process.ppid}-abcdef`, true);
        const others = make('something-99999999-else', true);
        const folder = new SocketFolder();
        for (let i = 0; i < 500 && existsSync(stale); i++) await sleep(10);
        assert.deepEqual([stale, young, living, others].map(existsSync), [false, true, true, true]);
        folder.remove();
      },
    ));
});
