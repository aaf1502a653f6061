import { lstatSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { makeTemporaryFolder, removeTemporaryFolder } from '../../base/temporary-folder.ts';
import { RuntimeError } from '../errors.ts';

const socketName = 'engine.sock';

/** A private folder for one engine's socket. */
export class SocketFolder {
  readonly socketPath: string;
  readonly #folder: string;

  /** @throws RuntimeError SOCKET_FOLDER_UNUSABLE when there is no place for it */
  constructor() {
    try {
      this.#folder = makeTemporaryFolder('engine', socketName);
    } catch (cause) {
      throw unusable(messageOf(cause), cause);
    }
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
    removeTemporaryFolder(this.#folder);
  }
}

function unusable(reason: string, cause: unknown): RuntimeError {
  return new RuntimeError('SOCKET_FOLDER_UNUSABLE', `no folder for the engine's socket: ${reason}`, {
    cause,
  });
}
