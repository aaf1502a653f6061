import { closeSync, openSync, writeSync } from 'node:fs';
import { messageOf } from '../base/errors.ts';
import { TraceError } from './errors.ts';

/** Characters gathered for one write. */
const gatheredMax = 1 << 20;

/** Pause before a full pipe is tried again. */
const retryMs = 2;

/**
 * Writes a large text file piece by piece; '-' is stdout.
 * @throws TraceError TRACE_FILE_UNWRITABLE
 */
export class TextFile {
  readonly #file: number;
  #gathered = '';

  constructor(path: string) {
    try {
      this.#file = path === '-' ? 1 : openSync(path, 'w');
    } catch (cause) {
      throw new TraceError('TRACE_FILE_UNWRITABLE', `cannot write ${path}: ${messageOf(cause)}`, { cause });
    }
  }

  write(text: string): void {
    this.#gathered += text;
    if (this.#gathered.length >= gatheredMax) this.#flush();
  }

  close(): void {
    this.#flush();
    if (this.#file !== 1) closeSync(this.#file);
  }

  #flush(): void {
    let left = Buffer.from(this.#gathered, 'utf8');
    this.#gathered = '';
    while (left.length > 0) left = left.subarray(this.#writeSome(left));
  }

  /** A pipe takes what it has room for, and none at all while its reader is busy. */
  #writeSome(bytes: Buffer): number {
    try {
      return writeSync(this.#file, bytes);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EAGAIN') throw thrown;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, retryMs);
      return 0;
    }
  }
}
