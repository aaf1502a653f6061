import { createHash } from 'node:crypto';
import { lstatSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from './errors.ts';
import { isProcessAlive } from './processes.ts';

/** A folder younger than this may belong to a process that is just starting. */
const staleAfterMs = 60_000;

/** Folders of this process, to be removed when it ends by itself. */
const own = new Set<string>();
let isListening = false;

/** What the kernel keeps of a Unix socket's path (`sun_path` without its final zero); Node cuts longer ones without a word. */
export const socketPathBytesMax = process.platform === 'linux' ? 107 : 103;

/**
 * Makes a private folder `nereid-KIND-PID-HOST-XXXXXX`. It is removed when the process ends; what a killed one left behind goes when the
 * next folder of that kind is made on this host (containers that share a temporary folder are hosts of their own: their ids mean nothing here).
 * It lies in the temporary folder, or else in the user's run-time folder, or in /tmp.
 * @param socketName a Unix socket that is to lie in it: its path must not be too long
 * @throws Error when no place can be used, with each one's reason
 */
export function makeTemporaryFolder(kind: string, socketName?: string): string {
  const reasons: string[] = [];
  const places = [tmpdir(), process.env.XDG_RUNTIME_DIR, '/tmp', '/var/tmp'];
  for (const place of new Set(places)) {
    if (!place) continue;
    const prefix = join(place, `nereid-${kind}-${process.pid}-${hostTag()}-`);
    const bytes = Buffer.byteLength(join(`${prefix}XXXXXX`, socketName ?? ''));
    if (socketName !== undefined && bytes > socketPathBytesMax) {
      reasons.push(`${place} is too long (${bytes} bytes of ${socketPathBytesMax})`);
      continue;
    }
    try {
      const folder = mkdtempSync(prefix);
      sweep(place, kind);
      removeAtExit(folder);
      return folder;
    } catch (thrown) {
      reasons.push(messageOf(thrown));
    }
  }
  throw new Error(`${reasons.join('; ')}; set TMPDIR to a folder that can be written`);
}

/** Removes a folder of {@link makeTemporaryFolder} with all in it. Twice is harmless. */
export function removeTemporaryFolder(folder: string): void {
  own.delete(folder);
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    // It lies in a temporary folder; the next process's sweep tries again.
  }
}

function removeAtExit(folder: string): void {
  own.add(folder);
  if (isListening) return;
  isListening = true;
  process.on('exit', () => {
    for (const each of own) removeTemporaryFolder(each);
  });
}

function sweep(place: string, kind: string): void {
  const pattern = new RegExp(`^nereid-${kind}-(\\d+)-${hostTag()}-`);
  for (const name of readdirSync(place)) {
    const pid = Number(pattern.exec(name)?.[1]);
    if (!pid || isProcessAlive(pid)) continue;
    const folder = join(place, name);
    try {
      const { uid, mtimeMs } = lstatSync(folder);
      if (process.getuid && uid !== process.getuid()) continue;
      if (Date.now() - mtimeMs >= staleAfterMs) removeTemporaryFolder(folder);
    } catch {
      // Another process sweeps too.
    }
  }
}

function hostTag(): string {
  return createHash('sha256').update(hostname()).digest('hex').slice(0, 6);
}
