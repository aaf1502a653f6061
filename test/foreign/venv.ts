import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../src/base/entry.ts';
import { messageOf } from '../../src/base/errors.ts';

/** Git, the type checker and the linter look past it there. */
const venvFolder = join(packageRoot, '.venv', 'foreign');
const requirementsFile = join(import.meta.dirname, 'requirements.txt');
const python = join(venvFolder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
const installTimeoutMs = 5 * 60_000;

const run = promisify(execFile);

/** The virtual environment's Python, or why there is none. */
export type ForeignPython = { python: string } | { skip: string };

/**
 * Makes `.venv/foreign` with the pinned foreign clients, unless it is there already (a marker in it holds the requirements' hash).
 * Where there is no Python, no venv module or no package index, the tests are skipped with that reason. `NEREID_NO_FOREIGN=1` skips too.
 */
export async function foreignPython(): Promise<ForeignPython> {
  if (process.env.NEREID_NO_FOREIGN) return { skip: 'NEREID_NO_FOREIGN is set' };
  const hash = createHash('sha256').update(readFileSync(requirementsFile)).digest('hex');
  const marker = join(venvFolder, 'requirements.sha256');
  if (existsSync(marker) && readFileSync(marker, 'utf8') === hash) return { python };
  return await lockedInstall(marker, hash);
}

/** Test files run in parallel: one of them installs, the others wait for its marker. */
async function lockedInstall(marker: string, hash: string): Promise<ForeignPython> {
  const lock = `${venvFolder}.lock`;
  mkdirSync(dirname(lock), { recursive: true });
  const deadlineMs = Date.now() + installTimeoutMs;
  while (!tryMakeFolder(lock)) {
    if (Date.now() > deadlineMs)
      return { skip: `${lock} is held by another run; remove it if there is none` };
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  try {
    if (existsSync(marker) && readFileSync(marker, 'utf8') === hash) return { python };
    rmSync(venvFolder, { recursive: true, force: true });
    await run('python3', ['-m', 'venv', venvFolder], { timeout: installTimeoutMs });
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirementsFile];
    await run(python, pip, { timeout: installTimeoutMs });
    writeFileSync(marker, hash);
    return { python };
  } catch (thrown) {
    const reason = messageOf(thrown).trim().split('\n').at(-1);
    return {
      skip: `the foreign clients could not be installed (needs python3 with venv, pip and its index): ${reason}`,
    };
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
