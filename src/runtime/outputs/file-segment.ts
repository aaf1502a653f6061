import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { makeTemporaryFolder, removeTemporaryFolder } from '../../base/temporary-folder.ts';
import { RuntimeError } from '../errors.ts';
import type { OutputRows, RowsReference } from './output-rows.ts';
import { type OutputSegment, OutputStore } from './output-store.ts';

/**
 * Rows in a file of the temporary folder. It is deleted as soon as its reader has read, so that it mostly never leaves the page cache: writing a row is a copy,
 * and so is reading it. Unlike in a frame of the socket, no token of another request waits behind it.
 */
class FileSegment implements OutputSegment {
  readonly #path: string;
  readonly #descriptor: number;

  constructor(path: string) {
    this.#path = path;
    this.#descriptor = attempt(() => openSync(path, 'wx', 0o600));
  }

  write(offset: number, values: Float32Array): void {
    let done = 0;
    attempt(() => {
      while (done < values.byteLength) {
        const left = new Uint8Array(values.buffer, values.byteOffset + done, values.byteLength - done);
        done += writeSync(this.#descriptor, left, 0, left.length, offset + done);
      }
    });
  }

  read(offset: number, rows: number, width: number): RowsReference {
    return { rows, width, path: this.#path, offset };
  }

  close(): void {
    closeSync(this.#descriptor);
    rmSync(this.#path, { force: true });
  }
}

/** A store whose rows are read by other processes of this host. Its folder is made when the first request asks for rows. */
export class FileStore extends OutputStore {
  #folder: string | undefined;

  constructor(bytesMax: number) {
    super({
      bytesMax,
      openSegment: (id) => {
        this.#folder ??= attempt(() => makeTemporaryFolder('outputs'));
        return new FileSegment(join(this.#folder, String(id)));
      },
      isReadElsewhere: true,
    });
  }

  override close(): void {
    super.close();
    if (this.#folder !== undefined) removeTemporaryFolder(this.#folder);
    this.#folder = undefined;
  }
}

/**
 * Reads rows of a {@link FileStore} in another process, off the event loop.
 * @throws RuntimeError `OUTPUTS_UNREADABLE`: the engine that wrote them is gone
 */
export async function readRows({ rows, width, path, offset }: RowsReference): Promise<OutputRows> {
  const values = new Float32Array(rows * width);
  const bytes = new Uint8Array(values.buffer);
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    for (let done = 0; done < bytes.length; ) {
      const { bytesRead } = await file.read(bytes, done, bytes.length - done, offset + done);
      if (bytesRead === 0) throw new Error('it is shorter than what it should hold');
      done += bytesRead;
    }
  } catch (cause) {
    const problem = `the logits or hidden states of this request could not be read: ${messageOf(cause)}`;
    throw new RuntimeError('OUTPUTS_UNREADABLE', `${problem}; send it again`, { cause });
  } finally {
    await file?.close();
  }
  return { rows, width, values };
}

/** @throws RuntimeError `OUTPUTS_UNWRITABLE` */
function attempt<T>(write: () => T): T {
  try {
    return write();
  } catch (cause) {
    const problem = `no room for logits or hidden states: ${messageOf(cause)}`;
    throw new RuntimeError(
      'OUTPUTS_UNWRITABLE',
      `${problem}; set TMPDIR to a folder with more, or ask for less`,
      {
        cause,
      },
    );
  }
}
