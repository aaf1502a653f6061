import type { IncomingMessage } from 'node:http';
import { bodyBytesMax } from '../base/limits.ts';
import { ByteBudget, type ByteHolder } from './byte-budget.ts';

/** Bounds of {@link Uploads}. */
export interface UploadsOptions {
  /** Bytes of all bodies that are arriving. */
  bytesMax: number;
  /** A body of which nothing arrives for so long is given up. */
  stallTimeoutMs: number;
}

/** Bodies up to this many bytes never wait for others. */
export const smallBodyBytesMax = 1024 * 1024;
/** While a large body waits for its turn, who sends less than this many bytes a second loses its own. */
const bytesPerSecondMin = 256 * 1024;
/** How often that is looked at: what somebody sent long ago does not count for what does not come now. */
const paceIntervalMs = 500;

/** Where a body comes from. */
export interface UploadSource {
  pause(): void;
  resume(): void;
  /** Hangs up. */
  cut(): void;
}

/**
 * The bodies that are arriving. Large ones take turns: together they never take more than half of the bound (one that is larger than that is
 * alone), and one that must wait is not read (TCP then holds its sender back). The other half is for small ones.
 */
export class Uploads {
  readonly #budget: ByteBudget;
  readonly #largeBytesMax: number;
  readonly #turns = new Set<Upload>();
  readonly #waiting = new Set<Upload>();
  #largeBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor({ bytesMax, stallTimeoutMs }: UploadsOptions) {
    this.#budget = new ByteBudget({ bytesMax, stallTimeoutMs });
    this.#largeBytesMax = Math.max(bodyBytesMax, bytesMax / 2);
  }

  /** Watches a body of HTTP from its first byte to its last, or to the end of its connection. */
  watch(request: IncomingMessage): void {
    const bytesMax = Math.min(Number(request.headers['content-length'] ?? bodyBytesMax), bodyBytesMax);
    const upload = this.begin(
      {
        pause: () => request.pause(),
        resume: () => request.resume(),
        cut: () => request.socket.destroy(),
      },
      bytesMax,
    );
    const onData = (chunk: Buffer): void => upload.received(chunk.length);
    const onOver = (): void => {
      request.off('data', onData);
      upload.over();
    };
    request.on('data', onData);
    request.once('end', onOver);
    request.once('close', onOver);
  }

  /** A body begins. @param bytesMax what it may come to */
  begin(source: UploadSource, bytesMax: number): Upload {
    const upload: Upload = new Upload(source, bytesMax, this.#largeBytesMax, {
      grown: () => {
        if (!upload.waits) this.#budget.update(upload);
        if (upload.arrivedBytes > smallBodyBytesMax) this.#takeTurn(upload);
      },
      takeTurn: () => this.#takeTurn(upload),
      over: () => {
        this.#budget.remove(upload);
        this.#leave(upload);
      },
    });
    return upload;
  }

  #takeTurn(upload: Upload): void {
    if (upload.isLarge) return;
    upload.isLarge = true;
    this.#waiting.add(upload);
    this.#admit();
    if (!this.#waiting.has(upload)) return;
    upload.waits = true;
    this.#budget.remove(upload);
    upload.source.pause();
    this.#timer ??= setInterval(() => this.#keepPace(), paceIntervalMs).unref();
  }

  #admit(): void {
    for (const upload of this.#waiting) {
      const isRoom = this.#largeBytes + upload.bytesMax <= this.#largeBytesMax;
      if (this.#turns.size > 0 && !isRoom) return;
      this.#waiting.delete(upload);
      this.#turns.add(upload);
      this.#largeBytes += upload.bytesMax;
      upload.lookedMs = performance.now();
      upload.lookedBytes = upload.arrivedBytes;
      if (!upload.waits) continue;
      upload.waits = false;
      upload.source.resume();
    }
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #leave(upload: Upload): void {
    this.#waiting.delete(upload);
    if (!this.#turns.delete(upload)) return;
    this.#largeBytes -= upload.bytesMax;
    this.#admit();
  }

  /** Others wait: nobody may hold a turn by sending next to nothing. */
  #keepPace(): void {
    const nowMs = performance.now();
    for (const upload of this.#turns) {
      const passedMs = nowMs - upload.lookedMs;
      if (passedMs < paceIntervalMs) continue;
      const bytes = upload.arrivedBytes - upload.lookedBytes;
      upload.lookedMs = nowMs;
      upload.lookedBytes = upload.arrivedBytes;
      // Our own loop stood still: what came meanwhile is not read yet.
      if (passedMs > 2 * paceIntervalMs) continue;
      if (bytes < (bytesPerSecondMin * passedMs) / 1000) upload.cut();
    }
  }
}

/** What {@link Uploads} does when something happens to a body. */
interface UploadEvents {
  grown(): void;
  takeTurn(): void;
  over(): void;
}

/** One body that is arriving. */
export class Upload implements ByteHolder {
  readonly source: UploadSource;
  /** What it may come to. */
  readonly bytesMax: number;
  arrivedBytes = 0;
  isLarge = false;
  waits = false;
  /** When it was looked at, and what was there then. */
  lookedMs = 0;
  lookedBytes = 0;
  readonly #countedMax: number;
  readonly #events: UploadEvents;

  constructor(source: UploadSource, bytesMax: number, countedMax: number, events: UploadEvents) {
    this.source = source;
    this.bytesMax = bytesMax;
    this.#countedMax = countedMax;
    this.#events = events;
  }

  /** One that is larger than all large ones together may be has their turns alone: it counts as they would. */
  get heldBytes(): number {
    return Math.min(this.arrivedBytes, this.#countedMax);
  }

  get movedBytes(): number {
    return this.arrivedBytes;
  }

  /** So many bytes more are here. */
  received(bytes: number): void {
    this.arrivedBytes += bytes;
    this.#events.grown();
  }

  /** It will be large, however few bytes of it there are (it is packed): it waits for its turn now. */
  takeTurn(): void {
    this.#events.takeTurn();
  }

  /** All of it is here and taken over, or nothing more comes. Twice is harmless. */
  over(): void {
    this.#events.over();
  }

  cut(): void {
    this.source.cut();
  }
}
