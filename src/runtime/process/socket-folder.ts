import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { RuntimeError } from '../errors.ts';

/** What the kernel keeps of a Unix socket's path (`sun_path` without its final zero); Node cuts longer ones without a word. */
export const socketPathBytesMax = process.platform === 'linux' ? 107 : 103;

const socketName = 'engine.sock';
/** A folder younger than this may belong to a server that is just starting. */
const staleAfterMs = 60_000;
const namePattern = /^nereid-(\d+)-/;

/** A private folder for one engine's socket, `nereid-PID-XXXXXX`. */
export class SocketFolder {
  readonly socketPath: string;
  readonly #folder: string;

  /**
   * Makes the folder where its path is short enough: in the temporary folder, in the user's run-time folder, or in /tmp.
   * @throws RuntimeError SOCKET_FOLDER_UNUSABLE when none of them can be written
   */
  constructor() {
    this.#folder = create();
    this.socketPath =
      process.platform === 'win32'
        ? `\\\\.\\pipe\\${this.#folder.replaceAll(/[\\/:]/g, '-')}`
        : join(this.#folder, socketName);
  }

  /**
   * Makes ready for the next life of the engine: the socket of the one before goes, and a folder that somebody deleted is made again.
   * @throws RuntimeError SOCKET_FOLDER_UNUSABLE
   */
  renew(): void {
    if (process.platform === 'win32') return;
    try {
      mkdirSync(this.#folder, { mode: 0o700, recursive: true });
      // In a shared temporary folder somebody else may have taken the name meanwhile.
      const { uid } = lstatSync(this.#folder);
      if (process.getuid && uid !== process.getuid()) throw new Error('it belongs to another user now');
      rmSync(this.socketPath, { force: true });
    } catch (cause) {
      throw unusable(`${this.#folder}: ${messageOf(cause)}`, cause);
    }
  }

  remove(): void {
    try {
      rmSync(this.#folder, { recursive: true, force: true });
    } catch {
      // It lies in a temporary folder; the next server's sweep tries again.
    }
  }
}

function create(): string {
  const reasons: string[] = [];
  const places = [tmpdir(), process.env.XDG_RUNTIME_DIR, '/tmp', '/var/tmp'];
  for (const place of new Set(places)) {
    if (!place) continue;
    // Six random characters follow.
    const prefix = join(place, `nereid-${process.pid}-`);
    const bytes = Buffer.byteLength(join(`${prefix}XXXXXX`, socketName));
    if (bytes > socketPathBytesMax) {
      reasons.push(`${place} is too long (${bytes} bytes of ${socketPathBytesMax})`);
      continue;
    }
    try {
      const folder = mkdtempSync(prefix);
      void sweep(place);
      return folder;
    } catch (thrown) {
      reasons.push(messageOf(thrown));
    }
  }
  throw unusable(reasons.join('; '));
}

function unusable(reasons: string, cause?: unknown): RuntimeError {
  const problem = `no folder for the engine's socket: ${reasons}`;
  return new RuntimeError(
    'SOCKET_FOLDER_UNUSABLE',
    `${problem}; set TMPDIR to a folder that can be written`,
    {
      cause,
    },
  );
}

/** Removes what servers that were killed left behind. */
async function sweep(place: string): Promise<void> {
  for (const name of readdirSync(place)) {
    const pid = Number(namePattern.exec(name)?.[1]);
    if (!pid || isAlive(pid)) continue;
    const folder = join(place, name);
    try {
      const { uid, mtimeMs } = lstatSync(folder);
      if (process.getuid && uid !== process.getuid()) continue;
      if (Date.now() - mtimeMs < staleAfterMs) continue;
      // A container that shares this folder counts its processes anew: whoever answers lives.
      if (await answers(join(folder, socketName))) continue;
      rmSync(folder, { recursive: true, force: true });
    } catch {
      // Another server sweeps too.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
