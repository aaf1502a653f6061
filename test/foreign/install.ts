import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { messageOf } from '../../src/base/errors.ts';

/** Longest one installing command may take, and another run's lock is waited for. */
export const installTimeoutMs = 5 * 60_000;

/** Why something is not installed. */
export interface NotInstalled {
  skip: string;
}

/**
 * Installs what a pinned list says into a folder, unless it is there already (a marker in it holds the list's hash). Test files run in
 * parallel: one of them installs, the others wait for its marker. `NEREID_NO_FOREIGN=1` skips.
 * @param needs what it takes, for the reason of a skip
 */
export async function installOnce(
  folder: string,
  listFile: string,
  needs: string,
  install: () => Promise<void>,
): Promise<NotInstalled | undefined> {
  if (process.env.NEREID_NO_FOREIGN) return { skip: 'NEREID_NO_FOREIGN is set' };
  const hash = createHash('sha256').update(readFileSync(listFile)).digest('hex');
  const marker = join(folder, 'installed.sha256');
  const isInstalled = (): boolean => existsSync(marker) && readFileSync(marker, 'utf8') === hash;
  if (isInstalled()) return undefined;
  const lock = `${folder}.lock`;
  mkdirSync(dirname(lock), { recursive: true });
  const deadlineMs = Date.now() + installTimeoutMs;
  while (!tryMakeFolder(lock)) {
    if (Date.now() > deadlineMs)
      return { skip: `${lock} is held by another run; remove it if there is none` };
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  try {
    if (isInstalled()) return undefined;
    rmSync(folder, { recursive: true, force: true });
    await install();
    writeFileSync(marker, hash);
    return undefined;
  } catch (thrown) {
    const reason = messageOf(thrown).trim().split('\n').at(-1);
    return { skip: `the foreign clients could not be installed (needs ${needs}): ${reason}` };
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
}

function tryMakeFolder(path: string): boolean {
  try {
    mkdirSync(path);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw thrown;
  }
}
