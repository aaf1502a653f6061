import { closeSync, existsSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { isProcessAlive } from '../../base/processes.ts';
import { DeviceError } from '../errors.ts';

/** Float32 elements of one buffer: what is exchanged is cut into pieces of so many. */
export const regionElements = 256 * 1024;
/** 'NRRK' and the layout's version: ranks of another build are refused. */
const magic = 0x4b_52_52_4e;
const layoutVersion = 2;
/** Words of the header: magic, version, ranks, elements. */
const headerWords = 4;
/** Ranks' counters start here, each in a cache line of its own. */
const countersOffset = 64;
const cacheLineBytes = 64;
const headerBytes = 8192;
/** Two buffers a rank: one is read by the others while the next is written. */
const buffersPerRank = 2;

const namePrefix = 'nereid-ranks-';

const regionFolder = (): string => (existsSync('/dev/shm') ? '/dev/shm' : tmpdir());

/** Where things lie in the memory that the ranks of one host share. */
export interface RegionLayout {
  bytes: number;
  /** Byte offset of a rank's counter (i32). */
  counter(rank: number): number;
  /** Byte offset of how many wait for a rank's counter in their sleep (i32). */
  sleepers(rank: number): number;
  /** Byte offset of a rank's buffer 0 or 1, {@link regionElements} float32. */
  buffer(rank: number, index: number): number;
}

/** The layout for a group of so many ranks. */
export function regionLayout(ranks: number): RegionLayout {
  const bufferBytes = regionElements * Float32Array.BYTES_PER_ELEMENT;
  return {
    bytes: headerBytes + ranks * buffersPerRank * bufferBytes,
    counter: (rank) => countersOffset + rank * cacheLineBytes,
    sleepers: (rank) => countersOffset + rank * cacheLineBytes + 4,
    buffer: (rank, index) => headerBytes + (rank * buffersPerRank + index) * bufferBytes,
  };
}

/**
 * Makes the file that the ranks of a group map, in memory where the system has such a file system. All of it is written, so that a full one is
 * an error here and not a killed process later.
 * @param name of the group, unique in this process
 * @returns its path; {@link removeRegion} when all ranks have mapped it, or when the group ends
 * @throws DeviceError `DEVICE_OUT_OF_MEMORY`
 */
export function createRegion(ranks: number, name: string): string {
  const folder = regionFolder();
  const path = join(folder, `${namePrefix}${process.pid}-${name}`);
  const layout = regionLayout(ranks);
  const contents = new Uint8Array(layout.bytes);
  new Int32Array(contents.buffer, 0, headerWords).set([magic, layoutVersion, ranks, regionElements]);
  let file: number | undefined;
  try {
    file = openSync(path, 'wx', 0o600);
    let written = 0;
    while (written < contents.length) written += writeSync(file, contents, written);
  } catch (cause) {
    if (file !== undefined) removeRegion(path);
    const problem = `no room for ${layout.bytes} bytes that the ranks share in ${folder} (${messageOf(cause)})`;
    const fix = 'give the container more shared memory (--shm-size), or set TMPDIR elsewhere';
    throw new DeviceError('DEVICE_OUT_OF_MEMORY', `${problem}: ${fix}`, { cause });
  } finally {
    if (file !== undefined) closeSync(file);
  }
  return path;
}

/** Removes regions that a killed process left behind: their names carry its id. */
export function sweepRegions(): void {
  const folder = regionFolder();
  for (const file of readdirSync(folder)) {
    const pid = Number(new RegExp(`^${namePrefix}(\\d+)-`).exec(file)?.[1]);
    if (pid > 0 && !isProcessAlive(pid)) removeRegion(join(folder, file));
  }
}

/** Removes the file; memory that is mapped stays. */
export function removeRegion(path: string): void {
  rmSync(path, { force: true });
}

/**
 * Checks a mapped region's header.
 * @throws DeviceError `DEVICE_FAILED` for another version or size of group
 */
export function checkRegion(memory: ArrayBuffer, ranks: number): void {
  const [foundMagic, version, foundRanks, elements] = new Int32Array(memory, 0, headerWords);
  const fits = foundMagic === magic && version === layoutVersion;
  if (fits && foundRanks === ranks && elements === regionElements) return;
  const problem = `the ranks' shared memory is of version ${version} for ${foundRanks} ranks, not ${layoutVersion} for ${ranks}`;
  throw new DeviceError('DEVICE_FAILED', `${problem}: start all ranks with the same Nereid`);
}
