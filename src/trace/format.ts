import { hash32 } from '../base/random.ts';

/**
 * A trace file is a row of blocks, each written by one thread in one append, so that any number of processes share a file and a killed
 * one leaves whole blocks behind. Little-endian. A block is a header and events of {@link eventBytes}:
 *
 * | event bytes | field |
 * |---|---|
 * | 0 | float64: nanoseconds of the machine's monotonic clock |
 * | 8 | float64: request id, −1 for none |
 * | 16 | uint32: 2 × phase, plus 1 at its end |
 * | 20 | uint32: step number of the thread's engine, 0 outside of steps |
 */
export const eventBytes = 24;

/** The last byte is the format's version. */
const magic = 0x4e545201;
export const headerBytes = 64;
const roleBytes = 16;

/** Events of one block at most: more in a header means that it is none. */
export const blockEventsMax = 1 << 20;

/** What a block says about its events. */
export interface BlockHeader {
  events: number;
  processId: number;
  /** 0 is the process's main thread. */
  threadId: number;
  /** What the process does: `engine`, `front-end`, … */
  role: string;
  /** Events that the thread lost before this block, since its last one: it made them faster than the disk took them. */
  lost: number;
  /** Unix time at the monotonic clock's zero, in two parts, since no float64 holds it to the nanosecond. */
  epochSeconds: number;
  epochNanoseconds: number;
}

/** Writes a block's header into the first {@link headerBytes} of `bytes`. */
export function writeHeader(bytes: Uint8Array, header: BlockHeader): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, headerBytes);
  view.setUint32(0, magic, true);
  view.setUint32(4, header.events, true);
  view.setUint32(8, header.processId, true);
  view.setUint32(12, header.threadId, true);
  view.setUint32(16, header.lost, true);
  view.setUint32(20, header.epochSeconds, true);
  view.setUint32(24, header.epochNanoseconds, true);
  for (let i = 0; i < roleBytes; i++) view.setUint8(32 + i, header.role.charCodeAt(i) || 0);
  view.setUint32(60, checkOf(view), true);
}

/** The header at `at`, or undefined where there is none (a torn block, other data). */
export function readHeader(bytes: Uint8Array, at: number): BlockHeader | undefined {
  if (at + headerBytes > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, headerBytes);
  if (view.getUint32(0, true) !== magic || view.getUint32(60, true) !== checkOf(view)) return undefined;
  const events = view.getUint32(4, true);
  if (events > blockEventsMax) return undefined;
  let role = '';
  for (let i = 0; i < roleBytes && view.getUint8(32 + i) !== 0; i++)
    role += String.fromCharCode(view.getUint8(32 + i));
  return {
    events,
    processId: view.getUint32(8, true),
    threadId: view.getUint32(12, true),
    lost: view.getUint32(16, true),
    epochSeconds: view.getUint32(20, true),
    epochNanoseconds: view.getUint32(24, true),
    role,
  };
}

/** Over everything before it, so that a header in the middle of torn data is not taken for one. */
function checkOf(view: DataView): number {
  const words: number[] = [];
  for (let at = 0; at < 60; at += 4) words.push(view.getUint32(at, true));
  return hash32(...words);
}
