import { type FileHandle, open, unlink } from 'node:fs/promises';
import { CheckpointError, writeError } from './errors.ts';

type Bytes = Uint8Array;

/** A tensor's bytes in order: whole, or produced piece by piece when its turn comes. A piece may be reused after it was taken. */
export type TensorData = Bytes | (() => Iterable<Bytes> | AsyncIterable<Bytes>);

/** Small writes are gathered up to this size. */
const gatherBytes = 1024 * 1024;

/** A file written from start to end. */
export class OutputFile {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #onBytes: ((bytes: Bytes) => void) | undefined;
  readonly #gathered: Buffer = Buffer.allocUnsafeSlow(gatherBytes);
  #gatheredBytes = 0;
  /** Bytes written so far. */
  position = 0;

  private constructor(path: string, file: FileHandle, onBytes: ((bytes: Bytes) => void) | undefined) {
    this.#path = path;
    this.#file = file;
    this.#onBytes = onBytes;
  }

  /** Creates or empties the file. */
  static async create(path: string, onBytes?: (bytes: Bytes) => void): Promise<OutputFile> {
    const file = await open(path, 'w').catch((thrown) => {
      throw writeError(path, thrown);
    });
    return new OutputFile(path, file, onBytes);
  }

  async write(bytes: Bytes): Promise<void> {
    this.#onBytes?.(bytes);
    this.position += bytes.length;
    if (this.#gatheredBytes + bytes.length > gatherBytes) await this.#flush();
    if (bytes.length > gatherBytes) {
      await this.#writeAll(bytes);
      return;
    }
    this.#gathered.set(bytes, this.#gatheredBytes);
    this.#gatheredBytes += bytes.length;
  }

  /** Zeros up to the next multiple of `alignmentBytes`. */
  async padTo(alignmentBytes: number): Promise<void> {
    const beyond = this.position % alignmentBytes;
    if (beyond !== 0) await this.write(new Uint8Array(alignmentBytes - beyond));
  }

  /** Writes what is gathered, and waits until it is on the disk. */
  async close(): Promise<void> {
    await this.#flush();
    await this.#file.sync();
    await this.#file.close();
  }

  /** Closes and removes an incomplete file; failures on the way are not worth hiding the first one. */
  async discard(): Promise<void> {
    await this.#file.close().catch(() => {});
    await unlink(this.#path).catch(() => {});
  }

  async #flush(): Promise<void> {
    const bytes = this.#gathered.subarray(0, this.#gatheredBytes);
    this.#gatheredBytes = 0;
    await this.#writeAll(bytes);
  }

  async #writeAll(bytes: Bytes): Promise<void> {
    try {
      let done = 0;
      while (done < bytes.length) {
        const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done);
        done += bytesWritten;
      }
    } catch (thrown) {
      throw writeError(this.#path, thrown);
    }
  }
}

/** @throws CheckpointError when the data is longer or shorter than `byteLength` */
export async function writeTensorData(
  output: OutputFile,
  name: string,
  byteLength: number,
  data: TensorData,
): Promise<void> {
  let written = 0;
  for await (const bytes of data instanceof Uint8Array ? [data] : data()) {
    written += bytes.length;
    if (written > byteLength) break;
    await output.write(bytes);
  }
  if (written === byteLength) return;
  const amount = written > byteLength ? 'more' : `${written}`;
  const problem = `tensor '${name}' needs ${byteLength} bytes, but ${amount} were given`;
  throw new CheckpointError('CHECKPOINT_WRITE_INVALID', problem);
}
