import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { socketPathBytesMax } from '../../base/temporary-folder.ts';
import { SocketFolder } from './socket-folder.ts';

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
});
