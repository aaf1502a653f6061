import type { ByteSource } from './byte-source.ts';
import { CheckpointError } from './errors.ts';
import { ggufLimits } from './gguf-limits.ts';

const windowBytesFirst = 64 * 1024;
const windowBytesMax = 4 * 1024 * 1024;

/**
 * Reads little-endian values one after another through a sliding window that doubles as it moves: a file with little metadata costs
 * one small read, a vocabulary of 150,000 strings a handful of large ones, and tensor data is never touched.
 */
export class GgufCursor {
  readonly #source: ByteSource;
  readonly #end: number;
  #window: Buffer = Buffer.alloc(0);
  #windowStart = 0;
  #windowBytes = windowBytesFirst;
  #at = 0;
  /** What is being read, for the error when the file ends inside it. */
  reading = 'the header';

  constructor(source: ByteSource) {
    this.#source = source;
    this.#end = Math.min(source.sizeBytes, ggufLimits.metadataBytesMax);
  }

  get path(): string {
    return this.#source.path;
  }

  /** Absolute byte position in the file. */
  get position(): number {
    return this.#windowStart + this.#at;
  }

  get remainingBytes(): number {
    return this.#end - this.position;
  }

  u8(): number {
    const at = this.#take(1);
    return this.#window.readUInt8(at);
  }

  i8(): number {
    const at = this.#take(1);
    return this.#window.readInt8(at);
  }

  u16(): number {
    const at = this.#take(2);
    return this.#window.readUInt16LE(at);
  }

  i16(): number {
    const at = this.#take(2);
    return this.#window.readInt16LE(at);
  }

  u32(): number {
    const at = this.#take(4);
    return this.#window.readUInt32LE(at);
  }

  i32(): number {
    const at = this.#take(4);
    return this.#window.readInt32LE(at);
  }

  f32(): number {
    const at = this.#take(4);
    return this.#window.readFloatLE(at);
  }

  f64(): number {
    const at = this.#take(8);
    return this.#window.readDoubleLE(at);
  }

  u64(): number | bigint {
    const at = this.#take(8);
    return exact(this.#window.readBigUInt64LE(at));
  }

  i64(): number | bigint {
    const at = this.#take(8);
    return exact(this.#window.readBigInt64LE(at));
  }

  /** A u64 that counts something: refused above `max`. */
  count(max: number, what: string): number {
    const at = this.#take(8);
    const value = this.#window.readUInt32LE(at) + this.#window.readUInt32LE(at + 4) * 2 ** 32;
    if (value > max) throw this.overLimit(what, value, max);
    return value;
  }

  /** A length-prefixed UTF-8 string; invalid sequences become U+FFFD. */
  string(bytesMax: number, what: string): string {
    const length = this.count(bytesMax, what);
    const at = this.#take(length);
    return this.#window.toString('utf8', at, at + length);
  }

  /** Fills `target` with the next bytes. */
  bytes(target: Uint8Array): void {
    this.require(target.length);
    const held = Math.min(target.length, this.#window.length - this.#at);
    target.set(this.#window.subarray(this.#at, this.#at + held));
    const position = this.position;
    if (held === target.length) {
      this.#at += held;
      return;
    }
    this.#source.readInto(position + held, target.subarray(held));
    this.#windowStart = position + target.length;
    this.#window = Buffer.alloc(0);
    this.#at = 0;
  }

  overLimit(what: string, value: number, max: number): CheckpointError {
    const problem = `${this.#source.path}: ${what} is ${value}, over the limit of ${max}`;
    return new CheckpointError('GGUF_LIMIT', `${problem}; the file is damaged or not meant for this program`);
  }

  /** @throws CheckpointError unless that many bytes of metadata may follow */
  require(bytes: number): void {
    if (bytes <= this.remainingBytes) return;
    if (this.#end < this.#source.sizeBytes)
      throw this.overLimit('the metadata in bytes', this.position + bytes, this.#end);
    const problem = `${this.#source.path} ends inside ${this.reading} (it has ${this.#source.sizeBytes} bytes)`;
    throw new CheckpointError('GGUF_TRUNCATED', `${problem}; download or convert it again`);
  }

  /** Moves past the next `bytes` bytes and says where in the window they start. */
  #take(bytes: number): number {
    if (this.#at + bytes > this.#window.length) this.#slide(bytes);
    const at = this.#at;
    this.#at += bytes;
    return at;
  }

  #slide(bytes: number): void {
    this.require(bytes);
    const start = this.position;
    const size = Math.min(Math.max(bytes, this.#windowBytes), this.remainingBytes);
    const window = Buffer.allocUnsafeSlow(size);
    this.#source.readInto(start, window);
    this.#windowBytes = Math.min(this.#windowBytes * 2, windowBytesMax);
    this.#window = window;
    this.#windowStart = start;
    this.#at = 0;
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
