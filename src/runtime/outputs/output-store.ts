import { assert } from '../../base/errors.ts';
import type { Prerequisite } from '../plan/prerequisites.ts';
import type { OutputRows, RowsReference } from './output-rows.ts';

/** Memory for the rows of all requests under way, unless the engine is told otherwise: the logits of 2,700 tokens over 49,152 words. */
export const outputBytesMaxDefault = 512 * 1024 * 1024;

/** Where one request's rows lie. */
export interface OutputSegment {
  /** @throws RuntimeError `OUTPUTS_UNWRITABLE` */
  write(offset: number, values: Float32Array): void;
  read(offset: number, rows: number, width: number): OutputRows | RowsReference;
  close(): void;
}

/** How an {@link OutputStore} keeps rows. */
export interface OutputStoreOptions {
  /** Of all requests together. */
  bytesMax: number;
  openSegment(requestId: number, bytes: number): OutputSegment;
  /** Rows are read by another process, which says when it has them ({@link OutputStore.settle}). */
  isReadElsewhere: boolean;
}

/**
 * Room for rows that are too large for events: logits take half a megabyte a token at 128k words. A request reserves its worst case before it may
 * run; one that finds no room waits, as for any other prerequisite, while those that want no rows go on.
 */
export class OutputStore {
  readonly #options: OutputStoreOptions;
  /** In order of arrival: a large one is not overtaken for ever. */
  readonly #waiting: OutputRoom[] = [];
  /** Of requests that ended, until their reader has read. */
  readonly #unread = new Map<number, OutputRoom>();
  #bytesTaken = 0;

  constructor(options: OutputStoreOptions) {
    this.#options = options;
  }

  get bytesMax(): number {
    return this.#options.bytesMax;
  }

  /** Bytes that requests have reserved, and ended ones have not given back. */
  get bytesTaken(): number {
    return this.#bytesTaken;
  }

  /** @param bytes at most {@link bytesMax} */
  open(requestId: number, bytes: number): OutputRoom {
    assert(bytes <= this.bytesMax, 'room that there can be');
    return new OutputRoom(bytes, {
      openSegment: () => this.#options.openSegment(requestId, bytes),
      queue: (room) => {
        this.#waiting.push(room);
        this.#grant();
      },
      ended: (room) => this.#ended(requestId, room),
    });
  }

  /** The reader of an ended request has all of its rows, or will never want them. Others are ignored. */
  settle(requestId: number): void {
    const room = this.#unread.get(requestId);
    if (!room) return;
    this.#unread.delete(requestId);
    this.#free(room);
  }

  close(): void {
    for (const room of this.#unread.values()) this.#free(room);
    this.#unread.clear();
  }

  #ended(requestId: number, room: OutputRoom): void {
    const at = this.#waiting.indexOf(room);
    if (at >= 0) {
      this.#waiting.splice(at, 1);
      this.#grant();
    } else if (!room.isReady) return;
    else if (this.#options.isReadElsewhere && room.wasRead) this.#unread.set(requestId, room);
    else this.#free(room);
  }

  #free(room: OutputRoom): void {
    room.closeSegment();
    this.#bytesTaken -= room.bytes;
    this.#grant();
  }

  #grant(): void {
    for (;;) {
      const [next] = this.#waiting;
      if (!next || this.#bytesTaken + next.bytes > this.bytesMax) return;
      this.#waiting.shift();
      this.#bytesTaken += next.bytes;
      next.grant();
    }
  }
}

/** What a room needs of its store. */
interface RoomStore {
  openSegment(): OutputSegment;
  queue(room: OutputRoom): void;
  ended(room: OutputRoom): void;
}

/** One request's part of an {@link OutputStore}. */
export class OutputRoom implements Prerequisite {
  readonly bytes: number;
  /** Somebody was told where rows of it are. */
  wasRead = false;
  readonly #store: RoomStore;
  #segment: OutputSegment | undefined;
  #isReady = false;
  #isReleased = false;
  #run: (() => void) | undefined;

  constructor(bytes: number, store: RoomStore) {
    this.bytes = bytes;
    this.#store = store;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /**
   * Queues for its bytes. The request has all else that it needs: who held room and waited for something that another one holds, which waits for room,
   * would wait for ever.
   */
  ask(): void {
    if (!this.#isReleased) this.#store.queue(this);
  }

  onReady(run: () => void): void {
    this.#run = run;
  }

  /** There is room now. */
  grant(): void {
    this.#isReady = true;
    const run = this.#run;
    this.#run = undefined;
    run?.();
  }

  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#run = undefined;
    this.#store.ended(this);
  }

  /** Writes values at a byte offset. Of an ended request nobody wants any. @throws RuntimeError `OUTPUTS_UNWRITABLE` */
  write(offset: number, values: Float32Array): void {
    if (this.#isReleased) return;
    assert(this.#isReady && offset + values.byteLength <= this.bytes, 'rows within their room');
    this.#segment ??= this.#store.openSegment();
    this.#segment.write(offset, values);
  }

  /** Rows that were written. */
  read(offset: number, rows: number, width: number): OutputRows | RowsReference {
    assert(this.#segment && !this.#isReleased, 'rows that were written');
    this.wasRead = true;
    return this.#segment.read(offset, rows, width);
  }

  closeSegment(): void {
    this.#segment?.close();
    this.#segment = undefined;
  }
}
