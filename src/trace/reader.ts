import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { messageOf } from '../base/errors.ts';
import { TraceError } from './errors.ts';
import { type BlockHeader, eventBytes, headerBytes, readHeader } from './format.ts';
import { phaseNames } from './phases.ts';

/** One event as readers see it. */
export interface TraceEvent {
  /** Nanoseconds of the recording machine's monotonic clock. */
  atNs: number;
  /** −1: none. */
  request: number;
  phase: number;
  isEnd: boolean;
  step: number;
  /** The thread, as an index into {@link TraceFile.threads}. */
  thread: number;
}

/** A thread that left events. */
export interface TraceThread {
  processId: number;
  threadId: number;
  role: string;
  lost: number;
}

interface BlockPlace {
  offset: number;
  events: number;
}

/** Bytes that are searched at once for the next block after a torn one. */
const searchBytes = 1 << 20;

/** Reads a trace file: its threads, and all of their events in the order of time, however the processes' blocks lie in it. */
export class TraceFile {
  readonly threads: readonly TraceThread[];
  /** Unix nanoseconds at the clock's zero, of the first block: one offset for all, so that a host's processes stay in order. */
  readonly epochNs: bigint;
  /** Bytes that belong to no whole block: what a killed process or a full disk tore. */
  readonly tornBytes: number;
  readonly eventCount: number;
  readonly #file: number;
  readonly #places: BlockPlace[][];

  /** @throws TraceError TRACE_FILE_UNREADABLE, TRACE_FILE_INVALID */
  constructor(path: string) {
    const { file, size } = openTrace(path);
    this.#file = file;
    const found = findBlocks(file, size);
    const first = found.blocks[0];
    if (!first) {
      closeSync(file);
      throw new TraceError(
        'TRACE_FILE_INVALID',
        `${path} is no trace of Nereid's; set NEREID_TRACER_OUT when starting the server`,
      );
    }
    this.epochNs = BigInt(first.header.epochSeconds) * 1_000_000_000n + BigInt(first.header.epochNanoseconds);
    this.tornBytes = found.tornBytes;
    const threads: TraceThread[] = [];
    const byName = new Map<string, number>();
    const places: BlockPlace[][] = [];
    let eventCount = 0;
    for (const { header, offset, events } of found.blocks) {
      const name = `${header.processId}/${header.threadId}`;
      const index = byName.get(name) ?? threads.length;
      if (index === threads.length) {
        const { processId, threadId, role } = header;
        threads.push({ processId, threadId, role, lost: 0 });
        byName.set(name, index);
        places.push([]);
      }
      const thread = threads[index];
      if (thread) thread.lost += header.lost;
      places[index]?.push({ offset, events });
      eventCount += events;
    }
    this.threads = threads;
    this.eventCount = eventCount;
    this.#places = places;
  }

  /**
   * Every event, by time (a phase that was recorded after it began may come up to a block late). The yielded object is used again for the
   * next one.
   */
  *events(): Generator<TraceEvent, void> {
    const cursors = this.#places.map((places, thread) => new Cursor(this.#file, places, thread));
    const open = cursors.filter((cursor) => cursor.next());
    const event: TraceEvent = { atNs: 0, request: -1, phase: 0, isEnd: false, step: 0, thread: 0 };
    while (open.length > 0) {
      let earliest = 0;
      for (let i = 1; i < open.length; i++)
        if ((open[i] as Cursor).atNs < (open[earliest] as Cursor).atNs) earliest = i;
      const cursor = open[earliest] as Cursor;
      cursor.read(event);
      if (event.phase < phaseNames.length) yield event;
      if (!cursor.next()) open.splice(earliest, 1);
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** One thread's events in their order; reads a block at a time. */
class Cursor {
  atNs = 0;
  readonly #file: number;
  readonly #places: readonly BlockPlace[];
  readonly #thread: number;
  #block = -1;
  #at = 0;
  #count = 0;
  #view: DataView = new DataView(new ArrayBuffer(0));

  constructor(file: number, places: readonly BlockPlace[], thread: number) {
    this.#file = file;
    this.#places = places;
    this.#thread = thread;
  }

  /** Goes to the next event. @returns false at the end */
  next(): boolean {
    this.#at++;
    while (this.#at >= this.#count) {
      const place = this.#places[++this.#block];
      if (!place) return false;
      const bytes = new Uint8Array(place.events * eventBytes);
      readSync(this.#file, bytes, 0, bytes.length, place.offset);
      this.#view = inOrder(bytes);
      this.#at = 0;
      this.#count = place.events;
    }
    this.atNs = this.#view.getFloat64(this.#at * eventBytes, true);
    return true;
  }

  read(event: TraceEvent): void {
    const offset = this.#at * eventBytes;
    const code = this.#view.getUint32(offset + 16, true);
    event.atNs = this.atNs;
    event.request = this.#view.getFloat64(offset + 8, true);
    event.phase = code >>> 1;
    event.isEnd = (code & 1) === 1;
    event.step = this.#view.getUint32(offset + 20, true);
    event.thread = this.#thread;
  }
}

/** A block's events by time: those that were recorded after they began stand too late in it. */
function inOrder(bytes: Uint8Array): DataView {
  const view = new DataView(bytes.buffer);
  const count = bytes.length / eventBytes;
  const timeOf = (index: number): number => view.getFloat64(index * eventBytes, true);
  let isSorted = true;
  for (let i = 1; i < count && isSorted; i++) isSorted = timeOf(i) >= timeOf(i - 1);
  if (isSorted) return view;
  const sorted = new Uint8Array(bytes.length);
  const places = Array.from({ length: count }, (_, index) => index).sort((a, b) => timeOf(a) - timeOf(b));
  for (const [to, from] of places.entries())
    sorted.set(bytes.subarray(from * eventBytes, (from + 1) * eventBytes), to * eventBytes);
  return new DataView(sorted.buffer);
}

function openTrace(path: string): { file: number; size: number } {
  try {
    return { file: openSync(path, 'r'), size: statSync(path).size };
  } catch (cause) {
    throw new TraceError('TRACE_FILE_UNREADABLE', `cannot read the trace: ${messageOf(cause)}`, { cause });
  }
}

interface FoundBlocks {
  blocks: { header: BlockHeader; offset: number; events: number }[];
  tornBytes: number;
}

/** Walks from header to header; after torn data it looks for the next one. A block that the file's end cuts keeps its whole events. */
function findBlocks(file: number, size: number): FoundBlocks {
  const found: FoundBlocks = { blocks: [], tornBytes: 0 };
  const head = new Uint8Array(headerBytes);
  let at = 0;
  while (at + headerBytes <= size) {
    readSync(file, head, 0, headerBytes, at);
    const header = readHeader(head, 0);
    if (!header) {
      const next = searchHeader(file, at + 1, size);
      found.tornBytes += next - at;
      at = next;
      continue;
    }
    const offset = at + headerBytes;
    const end = offset + header.events * eventBytes;
    const next = end <= size ? end : size;
    const whole = wholeEvents(file, offset, next, header.events);
    found.blocks.push({ header, offset, events: whole });
    const last = offset + whole * eventBytes;
    // Another process's block may begin inside of what a torn block had announced.
    at = whole === header.events ? end : searchHeader(file, last, size);
    found.tornBytes += at - last;
  }
  found.tornBytes += Math.max(0, size - at);
  return found;
}

/** How many of a block's events are whole: all, unless the file ends in it or another block begins in it. */
function wholeEvents(file: number, offset: number, end: number, announced: number): number {
  const fit = Math.floor((end - offset) / eventBytes);
  if (fit >= announced && isBoundary(file, end)) return announced;
  const intruder = searchHeader(file, offset, end);
  return Math.min(fit, Math.floor((intruder - offset) / eventBytes), announced);
}

/** Whether a block begins, or the file ends, here. */
function isBoundary(file: number, at: number): boolean {
  const head = new Uint8Array(headerBytes);
  const read = readSync(file, head, 0, headerBytes, at);
  return read === 0 || readHeader(head.subarray(0, read), 0) !== undefined;
}

/** The place of the first header from `from` on, or `to`. */
function searchHeader(file: number, from: number, to: number): number {
  const bytes = new Uint8Array(searchBytes + headerBytes);
  for (let at = from; at < to; at += searchBytes) {
    const read = readSync(file, bytes, 0, bytes.length, at);
    for (let i = 0; i < Math.min(read, searchBytes) && at + i < to; i++)
      if (bytes[i] === 0x01 && readHeader(bytes.subarray(0, read), i)) return at + i;
  }
  return to;
}
