import {
  closeSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BuilderError } from './errors.ts';
import { heartbeatMs, heldTokens, isOwnerAlive, type LockOwner, newOwner, parseOwner } from './lock-owner.ts';

/** Times a lock of a dead builder is taken over before giving up: another builder may be doing the same. */
const takeOverAttemptsMax = 5;

/** A lock that is held. */
export interface HeldLock {
  /** Tells this builder's files from those of all others. */
  readonly token: string;
  /** @throws BuilderError BUILD_OUTPUT_LOCKED when another builder took it: this one was silent for too long */
  check(): void;
  release(): void;
}

/** Takes `<output>.lock`. @throws BuilderError BUILD_OUTPUT_LOCKED */
export function takeLock(target: string): HeldLock {
  const path = `${target}.lock`;
  const owner = newOwner();
  const mine = `${path}-${owner.token}`;
  const text = `${JSON.stringify(owner)}\n`;
  writeFileSync(mine, text);
  try {
    // The file system's own time: another host's clock may differ from ours.
    const nowMs = statSync(mine).mtimeMs;
    for (let attempt = 0; attempt < takeOverAttemptsMax; attempt++) {
      // A link appears with its contents in it, so nobody ever reads an unfinished lock.
      if (tryLink(mine, path)) return hold(target, path, owner, text);
      const living = livingOwner(path, nowMs);
      if (living) throw locked(target, living);
      takeAway(target, path, owner, nowMs);
    }
  } finally {
    remove(mine);
  }
  throw new BuilderError('BUILD_OUTPUT_LOCKED', `cannot take the lock ${path}; remove it if no build runs`);
}

/** Whether a builder that lives holds `<output>.lock`. */
export function isBeingBuilt(target: string): boolean {
  return livingOwner(`${target}.lock`, Date.now()) !== undefined;
}

function hold(target: string, path: string, owner: LockOwner, text: string): HeldLock {
  // Writes reach this lock only, even when another one has taken its place, and are dated by the file system's own clock.
  const file = openSync(path, 'r+');
  heldTokens.add(owner.token);
  const isOurs = () => readOwner(path)?.token === owner.token;
  const heartbeat = setInterval(() => touch(file, text), heartbeatMs).unref();
  return {
    token: owner.token,
    check() {
      if (isOurs()) return;
      const problem = `another process took over the build of ${target}, as this one was silent for too long`;
      throw new BuilderError(
        'BUILD_OUTPUT_LOCKED',
        `${problem}; wait for it, or write elsewhere: --output of nereid build, NEREID_CACHE of all others`,
      );
    },
    release() {
      clearInterval(heartbeat);
      closeSync(file);
      heldTokens.delete(owner.token);
      if (isOurs()) remove(path);
    },
  };
}

/** Writes the same text again, for its date. */
function touch(file: number, text: string): void {
  try {
    writeSync(file, text, 0);
  } catch {
    // The disk is full or gone: the check before publishing sees to it.
  }
}

/** Removes what builders that were killed while taking the lock have left beside it. Only for the lock's holder. */
export function sweepLocks(target: string): void {
  const path = `${target}.lock`;
  const nowMs = statSync(path).mtimeMs;
  const prefix = `${basename(path)}-`;
  for (const name of readdirSync(dirname(path))) {
    const file = join(dirname(path), name);
    if (name.startsWith(prefix) && readOwner(file) && !livingOwner(file, nowMs)) remove(file);
  }
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
function takeAway(target: string, path: string, owner: LockOwner, nowMs: number): void {
  const stale = `${path}-stale-${owner.token}`;
  try {
    renameSync(path, stale);
  } catch (thrown) {
    if ((thrown as { code?: string }).code === 'ENOENT') return;
    throw thrown;
  }
  const caught = livingOwner(stale, nowMs);
  if (caught) tryLink(stale, path);
  remove(stale);
  if (caught) throw locked(target, caught);
}

function locked(target: string, { pid, hostName }: LockOwner): BuilderError {
  const problem = `process ${pid} is building ${target} right now (on ${hostName})`;
  return new BuilderError(
    'BUILD_OUTPUT_LOCKED',
    `${problem}; wait for it, or write elsewhere: --output of nereid build, NEREID_CACHE of all others`,
  );
}

/** A lock file's owner, if it lives; undefined too when the file is gone or names none. */
function livingOwner(path: string, nowMs: number): LockOwner | undefined {
  try {
    const owner = readOwner(path);
    return owner && isOwnerAlive(owner, nowMs - statSync(path).mtimeMs) ? owner : undefined;
  } catch (thrown) {
    if ((thrown as { code?: string }).code === 'ENOENT') return undefined;
    throw thrown;
  }
}

function readOwner(path: string): LockOwner | undefined {
  try {
    return parseOwner(readFileSync(path, 'utf8'));
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
