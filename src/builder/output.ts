import { linkSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { isEngineFolder } from './engine-folder.ts';
import { BuilderError, writeError } from './errors.ts';
import { makeFolder } from './make-folder.ts';

/** Times a lock of a dead builder is taken over before giving up: another builder may be doing the same. */
const takeOverAttemptsMax = 5;

/**
 * Makes a folder all or nothing: `make` fills `<output>.partial-<pid>`, which is renamed to `output` when it returns and removed when
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
  const partial = `${target}.partial-${process.pid}`;
  try {
    await makeFolder(dirname(target));
    const unlock = lock(target);
    try {
      await checkTarget(target, replace);
      await sweep(target);
      await mkdir(partial);
      const result = await make(partial);
      await publish(partial, target, replace);
      return result;
    } finally {
      await rm(partial, { recursive: true, force: true });
      unlock();
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

/** Removes what builders of the same output that no longer live have left. */
async function sweep(target: string): Promise<void> {
  const prefix = `${basename(target)}.partial-`;
  for (const name of await readdir(dirname(target))) {
    if (!name.startsWith(prefix) || isAlive(Number(name.slice(prefix.length)))) continue;
    await rm(join(dirname(target), name), { recursive: true, force: true });
  }
}

async function publish(partial: string, target: string, replace: boolean): Promise<void> {
  const old = `${target}.old-${process.pid}`;
  const replaced = replace && isEngineFolder(target);
  if (replaced) await rename(target, old);
  await rename(partial, target);
  if (replaced) await rm(old, { recursive: true, force: true });
}

/** Takes `<output>.lock`, which holds the builder's process id. @returns how to give it back */
function lock(target: string): () => void {
  const path = `${target}.lock`;
  const mine = `${path}-${process.pid}`;
  writeFileSync(mine, `${process.pid}\n`);
  try {
    for (let attempt = 0; attempt < takeOverAttemptsMax; attempt++) {
      // A link appears with its contents in it, so nobody ever reads an unfinished lock.
      if (tryLink(mine, path)) return () => remove(path);
      const owner = readOwner(path);
      if (owner !== undefined && isAlive(owner)) throw locked(target, owner);
      takeAway(target, path);
    }
  } finally {
    remove(mine);
  }
  throw new BuilderError('BUILD_OUTPUT_LOCKED', `cannot take the lock ${path}; remove it if no build runs`);
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (thrown) {
    if ((thrown as { code?: string }).code === 'EEXIST') return false;
    throw thrown;
  }
}

/** Removes a dead builder's lock; puts it back if another builder's fresh one was caught instead. */
function takeAway(target: string, path: string): void {
  const stale = `${path}-stale-${process.pid}`;
  try {
    renameSync(path, stale);
  } catch (thrown) {
    if ((thrown as { code?: string }).code === 'ENOENT') return;
    throw thrown;
  }
  const owner = readOwner(stale);
  const caught = owner !== undefined && isAlive(owner);
  if (caught) tryLink(stale, path);
  remove(stale);
  if (caught) throw locked(target, owner);
}

function locked(target: string, owner: number): BuilderError {
  const problem = `process ${owner} is building ${target} right now`;
  return new BuilderError('BUILD_OUTPUT_LOCKED', `${problem}; wait for it, or choose another --output`);
}

/** The lock's owner; undefined when the file is gone or holds none. */
function readOwner(path: string): number | undefined {
  try {
    const owner = Number.parseInt(readFileSync(path, 'utf8'), 10);
    return Number.isInteger(owner) ? owner : undefined;
  } catch {
    return undefined;
  }
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (thrown) {
    if ((thrown as { code?: string }).code !== 'ENOENT') throw thrown;
  }
}

/** Whether a process with this id lives (signal 0 checks without touching it). */
function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return (thrown as { code?: string }).code === 'EPERM';
  }
}
