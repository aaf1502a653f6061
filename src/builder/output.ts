import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { isEngineFolder } from './engine-folder.ts';
import { BuilderError, writeError } from './errors.ts';
import { type HeldLock, sweepLocks, takeLock } from './lock.ts';
import { makeFolder } from './make-folder.ts';

/**
 * Makes a folder all or nothing: `make` fills `<output>.partial-<pid>-<token>`, which is renamed to `output` when it returns and removed when
 * it throws. A builder killed half-way leaves only the partial folder, which no reader accepts and the next builder sweeps away.
 * @param replace whether an engine that already stands at `output` is replaced (only ever an engine, no other folder)
 * @throws BuilderError BUILD_OUTPUT_EXISTS, BUILD_OUTPUT_LOCKED, BUILD_OUTPUT_UNWRITABLE, BUILD_DISK_FULL
 */
export async function writeAtomically<T>(
  output: string,
  replace: boolean,
  make: (partial: string) => Promise<T>,
): Promise<T> {
  const target = resolve(output);
  try {
    await makeFolder(dirname(target));
    const lock = takeLock(target);
    const partial = `${target}.partial-${process.pid}-${lock.token}`;
    try {
      await sweep(target);
      await checkTarget(target, replace);
      await mkdir(partial);
      const result = await make(partial);
      lock.check();
      await publish(partial, target, replace, lock);
      return result;
    } finally {
      // The lock goes last: whoever holds it may sweep.
      await rm(partial, { recursive: true, force: true }).finally(() => lock.release());
    }
  } catch (thrown) {
    throw writeError(dirname(target), thrown);
  }
}

async function checkTarget(target: string, replace: boolean): Promise<void> {
  const entries = await readdir(target).catch((thrown: { code?: string }) => {
    if (thrown.code === 'ENOENT') return [];
    if (thrown.code === 'ENOTDIR') throw exists(`${target} is a file`, 'choose another --output');
    throw thrown;
  });
  if (entries.length === 0) return;
  if (!isEngineFolder(target)) throw exists(`${target} holds other files`, 'choose another --output');
  if (!replace) throw exists(`${target} already holds an engine`, 'pass --force to replace it');
}

function exists(problem: string, fix: string): BuilderError {
  return new BuilderError('BUILD_OUTPUT_EXISTS', `${problem}; ${fix}`);
}

/** What stands behind `<output>.partial-` and `<output>.old-`: a process id and a lock's token. */
const ownerSuffix = /^\d+-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Removes what earlier builders of the same output have left. None of them lives: this one holds the lock. */
async function sweep(target: string): Promise<void> {
  for (const path of await leftovers(target, 'partial')) await rm(path, { recursive: true, force: true });
  for (const path of await leftovers(target, 'old')) {
    // Killed between the two renames of `publish`: what was to be replaced is all there is.
    if (!existsSync(target)) await rename(path, target);
    else await rm(path, { recursive: true, force: true });
  }
  sweepLocks(target);
}

/** Paths `<output>.<kind>-<pid>-<token>`. A folder that a user named like that without a token is none. */
async function leftovers(target: string, kind: 'partial' | 'old'): Promise<string[]> {
  const prefix = `${basename(target)}.${kind}-`;
  const names = await readdir(dirname(target));
  return names
    .filter((name) => name.startsWith(prefix) && ownerSuffix.test(name.slice(prefix.length)))
    .map((name) => join(dirname(target), name));
}

async function publish(partial: string, target: string, replace: boolean, lock: HeldLock): Promise<void> {
  const old = `${target}.old-${process.pid}-${lock.token}`;
  const replaced = replace && isEngineFolder(target);
  if (replaced) await rename(target, old);
  try {
    await rename(partial, target);
  } catch (thrown) {
    if (replaced) await rename(old, target);
    throw thrown;
  }
  if (replaced) await rm(old, { recursive: true, force: true });
}
