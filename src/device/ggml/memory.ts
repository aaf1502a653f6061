import { closeSync, fstatSync, openSync } from 'node:fs';
import { constants, platform } from 'node:os';
import koffi from 'koffi';
import { assert, messageOf } from '../../base/errors.ts';
import { DeviceError } from '../errors.ts';

const protRead = 1;
const protReadWrite = 3;
const mapShared = 1;
const mapPrivate = 2;
const mapAnonymous = platform() === 'darwin' ? 0x1000 : 0x20;
const mapNoReserve = platform() === 'darwin' ? 0x40 : 0x4000;
const adviseDontNeed = 4;

/** Granularity of {@link MemoryMap.discard}; the largest page size of the supported platforms. */
export const pageBytes = process.arch === 'arm64' && platform() === 'darwin' ? 16_384 : 4096;

interface SystemCalls {
  mmap(
    at: null,
    bytes: number,
    protection: number,
    flags: number,
    file: number,
    offset: number,
  ): bigint | null;
  munmap(at: bigint, bytes: number): number;
  madvise(at: bigint, bytes: number, advice: number): number;
  memcpy(to: bigint, from: bigint, bytes: number): bigint;
}

let calls: SystemCalls | undefined;

/** The C library's calls, through the process's own symbols. */
function system(): SystemCalls {
  if (calls) return calls;
  if (platform() === 'win32') {
    throw new DeviceError(
      'DEVICE_LIBRARY_MISSING',
      'the ggml device needs mmap: run it on Linux, macOS or WSL',
    );
  }
  const library = koffi.load(null);
  calls = {
    mmap: library.func('mmap', 'void *', ['void *', 'size_t', 'int', 'int', 'int', 'int64_t']),
    munmap: library.func('munmap', 'int', ['void *', 'size_t']),
    madvise: library.func('madvise', 'int', ['void *', 'size_t', 'int']),
    memcpy: library.func('memcpy', 'void *', ['void *', 'void *', 'size_t']),
  };
  return calls;
}

/**
 * Memory outside the JavaScript heap. Addresses are plain numbers (below 2^53), so that they can be computed with and written without
 * bigints in the step loop.
 */
export class MemoryMap {
  readonly address: number;
  readonly bytes: number;
  #open = true;

  private constructor(address: bigint | null, bytes: number, what: string) {
    if (!address || address === 0xffff_ffff_ffff_ffffn) {
      const errno = Object.entries(constants.errno).find(([, code]) => code === koffi.errno())?.[0];
      const fix = 'close other programs or give less context, slots or batch';
      throw new DeviceError(
        'DEVICE_OUT_OF_MEMORY',
        `cannot map ${bytes} bytes for ${what} (${errno}): ${fix}`,
      );
    }
    this.address = Number(address);
    this.bytes = bytes;
  }

  /** Zeroed memory that takes up room only where it is written. */
  static anonymous(bytes: number, what: string): MemoryMap {
    const rounded = Math.max(1, Math.ceil(bytes / pageBytes)) * pageBytes;
    const flags = mapPrivate | mapAnonymous | mapNoReserve;
    return new MemoryMap(system().mmap(null, rounded, protReadWrite, flags, -1, 0), rounded, what);
  }

  /**
   * A whole file, read-only. Reading a page beyond the file's end would kill the process, so the size is checked here, once.
   * @param bytesMin what the caller is going to read
   */
  static file(path: string, bytesMin: number): MemoryMap {
    let file: number;
    try {
      file = openSync(path, 'r');
    } catch (cause) {
      throw new DeviceError('DEVICE_WEIGHT_MISSING', `cannot open ${path}: ${messageOf(cause)}`, { cause });
    }
    try {
      const { size } = fstatSync(file);
      if (size < bytesMin) {
        const problem = `${path} is ${size} bytes, but its tensors end at ${bytesMin}`;
        throw new DeviceError('DEVICE_WEIGHT_INVALID', `${problem}: download or build it again`);
      }
      return new MemoryMap(system().mmap(null, size, protRead, mapPrivate, file, 0), size, path);
    } finally {
      closeSync(file);
    }
  }

  /** A whole file that several processes write to. It must hold at least `bytes`, for the reason that {@link file} gives. */
  static shared(path: string, bytes: number): MemoryMap {
    const file = openSync(path, 'r+');
    try {
      const { size } = fstatSync(file);
      if (size < bytes)
        throw new DeviceError('DEVICE_FAILED', `${path} holds ${size} bytes instead of ${bytes}`);
      return new MemoryMap(system().mmap(null, bytes, protReadWrite, mapShared, file, 0), bytes, path);
    } finally {
      closeSync(file);
    }
  }

  /** The memory as an ArrayBuffer. It must not be touched after {@link close}. */
  view(offset: number, bytes: number): ArrayBuffer {
    assert(offset >= 0 && offset + bytes <= this.bytes, 'a view inside its memory map');
    return koffi.view(BigInt(this.address + offset), bytes);
  }

  /** Gives the whole pages inside a range back to the system: anonymous memory reads as zero afterwards, a file's as the file. */
  discard(offset: number, bytes: number): void {
    const start = Math.ceil(offset / pageBytes) * pageBytes;
    const end = Math.floor(Math.min(offset + bytes, this.bytes) / pageBytes) * pageBytes;
    if (end > start) system().madvise(BigInt(this.address + start), end - start, adviseDontNeed);
  }

  /** Copies within this map; ranges must not overlap. */
  copy(to: number, from: number, bytes: number): void {
    assert(Math.max(to, from) + bytes <= this.bytes, 'a copy inside its memory map');
    system().memcpy(BigInt(this.address + to), BigInt(this.address + from), bytes);
  }

  close(): void {
    if (this.#open) system().munmap(BigInt(this.address), this.bytes);
    this.#open = false;
  }
}
