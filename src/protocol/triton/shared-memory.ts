import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { RepositoryError } from '../../repository/errors.ts';

/** Where Linux keeps POSIX shared memory (`shm_open`). */
const folder = '/dev/shm';

/** Regions registered at a time; each holds a file descriptor. */
export const sharedMemoryRegionsMax = 4096;

/** What a status route shows of a region. */
export interface RegionStatus {
  name: string;
  key: string;
  offset: number;
  byte_size: number;
}

interface Region extends RegionStatus {
  fileDescriptor: number;
}

/** A piece of a region that holds, or is to hold, a tensor. */
export interface RegionRange {
  region: string;
  offset: number;
  byteSize: number;
}

/**
 * The system shared memory extension: clients on this machine name POSIX shared memory objects, and tensors are read from and written
 * to them by position. Texts and statuses are tritonserver's.
 */
export class SharedMemory {
  readonly #regions = new Map<string, Region>();

  /** @throws RepositoryError ALREADY_EXISTS, INTERNAL for a key that cannot be opened or is shorter than it should be */
  register(name: string, key: string, offset: number, byteSize: number): void {
    if (this.#regions.has(name)) {
      throw new RepositoryError('ALREADY_EXISTS', `shared memory region '${name}' already in manager`);
    }
    if (this.#regions.size >= sharedMemoryRegionsMax) {
      const message = `${sharedMemoryRegionsMax} shared memory regions are registered; unregister some first`;
      throw new RepositoryError('UNAVAILABLE', message);
    }
    const fileDescriptor = open(key);
    const status = fstatSync(fileDescriptor);
    const { size } = status;
    // A pipe of that name would be waited for.
    if (!status.isFile() || !(byteSize > 0) || !(offset >= 0) || offset + byteSize > size) {
      closeSync(fileDescriptor);
      throw new RepositoryError('INTERNAL', `Invalid shared memory region: '${key}'`);
    }
    this.#regions.set(name, { name, key, offset, byte_size: byteSize, fileDescriptor });
  }

  /** One region, or with '' all. @throws RepositoryError NOT_FOUND */
  status(name: string): RegionStatus[] {
    if (name !== '' && !this.#regions.has(name)) {
      throw new RepositoryError('NOT_FOUND', `Unable to find system shared memory region: '${name}'`);
    }
    return [...this.#regions.values()]
      .filter((region) => name === '' || region.name === name)
      .map(({ fileDescriptor: _, ...shown }) => shown)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** One region, or with '' all; an unknown name is no error. */
  unregister(name: string): void {
    for (const region of [...this.#regions.values()]) {
      if (name !== '' && region.name !== name) continue;
      this.#regions.delete(region.name);
      closeSync(region.fileDescriptor);
    }
  }

  /** @throws RepositoryError NOT_FOUND for the region, INVALID_ARGUMENT for a range outside it */
  check({ region: name, offset, byteSize }: RegionRange): void {
    const region = this.#regions.get(name);
    if (!region) throw new RepositoryError('NOT_FOUND', `Unable to find shared memory region: '${name}'`);
    if (!(offset >= 0 && offset < region.byte_size)) {
      throw new RepositoryError('INVALID_ARGUMENT', `Invalid offset for shared memory region: '${name}'`);
    }
    if (!(byteSize > 0 && offset + byteSize <= region.byte_size)) {
      const message = `Invalid offset + byte size for shared memory region: '${name}'`;
      throw new RepositoryError('INVALID_ARGUMENT', message);
    }
  }

  /** The bytes of a range, copied. @throws RepositoryError as {@link check}, INTERNAL where the object has been cut since */
  read(range: RegionRange): Buffer {
    this.check(range);
    const region = this.#regions.get(range.region) as Region;
    const bytes = Buffer.allocUnsafe(range.byteSize);
    const read = readSync(region.fileDescriptor, bytes, 0, range.byteSize, region.offset + range.offset);
    if (read < range.byteSize) throw cut(region);
    return bytes;
  }

  /** Writes a tensor to the start of a range. @throws RepositoryError as {@link read} */
  write(range: RegionRange, bytes: Uint8Array): void {
    this.check(range);
    const region = this.#regions.get(range.region) as Region;
    // Writing past the end would lengthen the object under its owner's hands.
    if (fstatSync(region.fileDescriptor).size < region.offset + range.offset + bytes.length)
      throw cut(region);
    writeSync(region.fileDescriptor, bytes, 0, bytes.length, region.offset + range.offset);
  }

  close(): void {
    this.unregister('');
  }
}

/** `shm_open`: one name, with or without a slash in front, and no way out of the folder. */
function open(key: string): number {
  const name = key.startsWith('/') ? key.slice(1) : key;
  // What our own ranks share is nobody else's.
  const isName = name !== '' && name !== '.' && name !== '..' && !/[/\0]|^nereid-ranks-/.test(name);
  try {
    if (!isName) throw new Error('no name of shared memory');
    return openSync(join(folder, name), 'r+');
  } catch (cause) {
    throw new RepositoryError('INTERNAL', `Unable to open shared memory region: '${key}'`, { cause });
  }
}

function cut(region: Region): RepositoryError {
  return new RepositoryError(
    'INTERNAL',
    `shared memory region '${region.name}' is shorter than when it was registered`,
  );
}
