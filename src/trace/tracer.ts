import { closeSync, openSync, write, writeSync } from 'node:fs';
import { threadId } from 'node:worker_threads';
import { messageOf } from '../base/errors.ts';
import { monotonicNs } from '../base/monotonic.ts';
import { TraceError } from './errors.ts';
import { eventBytes, headerBytes, writeHeader } from './format.ts';
import type { Phase, PhaseRecorder } from './phases.ts';

/** Events of a segment: 96 KiB. */
export const segmentEvents = 4096;

/**
 * Segments of a thread's ring: one is filled, the others wait to be written or are being written. When all of them wait, events are
 * counted as lost instead of delaying what is traced.
 */
export const segmentsMax = 16;

/** How long an event stays in memory at most while its thread has turns of its event loop: what a kill can cost. */
export const flushIntervalMs = 200;

/** Bytes that one thread writes at most; then it counts what it loses. */
export const traceBytesMax = 4 * 2 ** 30;

/** Where a tracer writes and what it calls itself. */
export interface TracerOptions {
  path: string;
  /** `engine`, `front-end`, …: at most 16 ASCII characters. */
  role: string;
  /** Begin a new file; otherwise events go to the end of what is there. */
  isFirst: boolean;
  /** For tests; default {@link traceBytesMax}. */
  bytesMax?: number;
}

interface Segment {
  bytes: Uint8Array;
  floats: Float64Array;
  words: Uint32Array;
}

function makeSegment(): Segment {
  const buffer = new ArrayBuffer(headerBytes + segmentEvents * eventBytes);
  return {
    bytes: new Uint8Array(buffer),
    floats: new Float64Array(buffer, headerBytes),
    words: new Uint32Array(buffer, headerBytes),
  };
}

/**
 * Records phases of one thread into preallocated memory and appends it to a file beside the work. An event costs the time of reading
 * the clock and four stores (`bench/trace.ts` prints it).
 */
export class Tracer implements PhaseRecorder {
  readonly #file: number;
  readonly #role: string;
  readonly #bytesMax: number;
  readonly #free: Segment[] = [];
  readonly #full: { segment: Segment; events: number; lost: number }[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #epoch: { seconds: number; nanoseconds: number };
  #segment: Segment;
  #floats: Float64Array;
  #words: Uint32Array;
  #events = 0;
  #step = 0;
  #lost = 0;
  #writing = false;
  #bytesWritten = 0;
  #closed = false;

  /** @throws TraceError TRACE_FILE_UNWRITABLE */
  constructor(options: TracerOptions) {
    try {
      this.#file = openSync(options.path, options.isFirst ? 'w' : 'a');
      if (options.isFirst) {
        // Appending from the first byte on, like every other process of this trace.
        closeSync(this.#file);
        this.#file = openSync(options.path, 'a');
      }
    } catch (cause) {
      throw new TraceError(
        'TRACE_FILE_UNWRITABLE',
        `cannot write the trace (NEREID_TRACER_OUT): ${messageOf(cause)}`,
        { cause },
      );
    }
    this.#role = options.role;
    this.#bytesMax = options.bytesMax ?? traceBytesMax;
    this.#epoch = epochOfMonotonicZero();
    for (let i = 1; i < segmentsMax; i++) this.#free.push(makeSegment());
    this.#segment = makeSegment();
    this.#floats = this.#segment.floats;
    this.#words = this.#segment.words;
    this.#timer = setInterval(() => this.flush(), flushIntervalMs);
    this.#timer.unref();
  }

  begin(phase: Phase, request = -1, agoNs = 0): void {
    this.#record(phase * 2, request, agoNs);
  }

  end(phase: Phase, request = -1): void {
    this.#record(phase * 2 + 1, request, 0);
  }

  step(number: number): void {
    this.#step = number;
  }

  /** Hands what is recorded so far to the file, beside the caller. */
  flush(): void {
    if (this.#events > 0) this.#rotate();
    this.#writeNext();
  }

  /** Writes everything that is left and closes the file. Blocks: for the end of a process. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    if (this.#events > 0) this.#rotate();
    // The segment at the front may be on its way to the file already; it went out whole in one call.
    if (this.#writing) this.#full.shift();
    for (const { segment, events, lost } of this.#full.splice(0))
      if (this.#fits(events)) writeSync(this.#file, this.#block(segment, events, lost));
    if (!this.#writing) closeSync(this.#file);
  }

  #record(code: number, request: number, agoNs: number): void {
    if (this.#events === segmentEvents && !this.#rotate()) {
      this.#lost++;
      return;
    }
    const at = this.#events++ * 3;
    this.#floats[at] = monotonicNs() - agoNs;
    this.#floats[at + 1] = request;
    this.#words[at * 2 + 4] = code;
    this.#words[at * 2 + 5] = this.#step;
  }

  /** Puts the filled segment in line for the file and takes a free one. @returns false where there is none */
  #rotate(): boolean {
    const next = this.#free.pop();
    if (!next) return false;
    this.#full.push({ segment: this.#segment, events: this.#events, lost: this.#lost });
    this.#lost = 0;
    this.#segment = next;
    this.#floats = next.floats;
    this.#words = next.words;
    this.#events = 0;
    this.#writeNext();
    return true;
  }

  #writeNext(): void {
    const first = this.#full[0];
    if (this.#writing || this.#closed || !first) return;
    if (!this.#fits(first.events)) {
      this.#lost += first.events;
      this.#written(first.segment);
      return;
    }
    this.#writing = true;
    write(this.#file, this.#block(first.segment, first.events, first.lost), () => {
      this.#writing = false;
      if (this.#closed) closeSync(this.#file);
      else this.#written(first.segment);
    });
  }

  #written(segment: Segment): void {
    this.#full.shift();
    this.#free.push(segment);
    this.#writeNext();
  }

  #fits(events: number): boolean {
    this.#bytesWritten += headerBytes + events * eventBytes;
    return this.#bytesWritten <= this.#bytesMax;
  }

  #block(segment: Segment, events: number, lost: number): Uint8Array {
    writeHeader(segment.bytes, {
      events,
      processId: process.pid,
      threadId,
      role: this.#role,
      lost,
      epochSeconds: this.#epoch.seconds,
      epochNanoseconds: this.#epoch.nanoseconds,
    });
    return segment.bytes.subarray(0, headerBytes + events * eventBytes);
  }
}

/** Unix time at the monotonic clock's zero; good to about a microsecond. */
function epochOfMonotonicZero(): { seconds: number; nanoseconds: number } {
  const sinceOriginNs = BigInt(Math.round(performance.now() * 1e6));
  const originNs = BigInt(Math.round(performance.timeOrigin * 1e3)) * 1000n;
  const zeroNs = originNs + sinceOriginNs - process.hrtime.bigint();
  return { seconds: Number(zeroNs / 1_000_000_000n), nanoseconds: Number(zeroNs % 1_000_000_000n) };
}
