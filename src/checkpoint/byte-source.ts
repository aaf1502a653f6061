import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { CheckpointError, fileError } from './errors.ts';

/** Bytes read by position: a file, or memory in tests and fuzzers. */
export interface ByteSource {
  /** For error messages and {@link StoredTensor.path}. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Fills all of `target` from absolute byte `position`. @throws CheckpointError when there are not that many bytes */
  readInto(position: number, target: Uint8Array): void;
}

/** What one `read` call of the operating system takes at most (Linux stops at 2 GiB - 4 KiB). */
const systemReadBytesMax = 1024 * 1024 * 1024;

/** An open regular file. Close it. */
export class FileSource implements ByteSource {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #descriptor: number;

  /** @throws CheckpointError when `path` is missing, unreadable, or no regular file (reading a pipe would hang) */
  constructor(path: string) {
    this.path = path;
    try {
      const stat = statSync(path);
      if (!stat.isFile()) {
        const what = stat.isDirectory() ? 'a folder' : 'not a regular file';
        throw new CheckpointError('CHECKPOINT_UNREADABLE', `${path} is ${what}; a file was expected`);
      }
      this.#descriptor = openSync(path, 'r');
    } catch (thrown) {
      throw fileError(path, thrown);
    }
    this.sizeBytes = fstatSync(this.#descriptor).size;
  }

  readInto(position: number, target: Uint8Array): void {
    let done = 0;
    while (done < target.length) {
      const length = Math.min(target.length - done, systemReadBytesMax);
      const count = this.#read(target, done, length, position + done);
      if (count === 0) throw shortRead(this.path, position + target.length);
      done += count;
    }
  }

  #read(target: Uint8Array, start: number, length: number, position: number): number {
    try {
      return readSync(this.#descriptor, target, start, length, position);
    } catch (thrown) {
      throw fileError(this.path, thrown);
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

/** Bytes in memory, for tests and fuzzers. */
export class MemorySource implements ByteSource {
  readonly path: string;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, path = '(memory)') {
    this.#bytes = bytes;
    this.path = path;
  }

  get sizeBytes(): number {
    return this.#bytes.length;
  }

  readInto(position: number, target: Uint8Array): void {
    if (position + target.length > this.#bytes.length) throw shortRead(this.path, position + target.length);
    target.set(this.#bytes.subarray(position, position + target.length));
  }
}

/** Opens `path`, hands it to `use` and closes it whatever happens. */
export function withFile<T>(path: string, use: (source: FileSource) => T): T {
  const source = new FileSource(path);
  try {
    return use(source);
  } finally {
    source.close();
  }
}

/** The error for a file that ends before byte `end`, though its header said otherwise. */
export function shortRead(path: string, end: number): CheckpointError {
  const problem = `${path} ends before byte ${end}: it was truncated or replaced after it was opened`;
  return new CheckpointError(
    'CHECKPOINT_CHANGED',
    `${problem}; leave the file alone while it is read, or fetch it again`,
  );
}
