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
/** How often that is looked at. */
const paceIntervalMs = 1_000;

/**
 * The bodies that are arriving. Large ones take turns: together they never take more than half of the bound, and one that must wait is
 * not read (TCP then holds its sender back). The other half is for small ones.
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

  /** Watches a body from its first byte to its last, or to the end of its connection. */
  watch(request: IncomingMessage): void {
    const upload = new Upload(request);
    const onData = (chunk: Buffer): void => {
      upload.heldBytes += chunk.length;
      if (!upload.waits) this.#budget.update(upload);
      if (upload.heldBytes > smallBodyBytesMax && !upload.isLarge) this.#takeTurn(upload);
    };
    const onOver = (): void => {
      request.off('data', onData);
      this.#budget.remove(upload);
      this.#leave(upload);
    };
    request.on('data', onData);
    request.once('end', onOver);
    request.once('close', onOver);
  }

  #takeTurn(upload: Upload): void {
    upload.isLarge = true;
    this.#waiting.add(upload);
    this.#admit();
    if (!this.#waiting.has(upload)) return;
    upload.waits = true;
    this.#budget.remove(upload);
    upload.request.pause();
    this.#timer ??= setInterval(() => this.#keepPace(), paceIntervalMs).unref();
  }

  #admit(): void {
    for (const upload of this.#waiting) {
      if (this.#largeBytes + upload.bytesMax > this.#largeBytesMax) return;
      this.#waiting.delete(upload);
      this.#turns.add(upload);
      this.#largeBytes += upload.bytesMax;
      upload.turnStartMs = performance.now();
      upload.turnStartBytes = upload.heldBytes;
      if (!upload.waits) continue;
      upload.waits = false;
      upload.request.resume();
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
      const seconds = (nowMs - upload.turnStartMs) / 1000;
      const bytes = upload.heldBytes - upload.turnStartBytes;
      if (seconds >= 1 && bytes < bytesPerSecondMin * seconds) upload.cut();
    }
  }
}

/** One body. */
class Upload implements ByteHolder {
  readonly request: IncomingMessage;
  /** What it may come to: its declared length, or the limit. */
  readonly bytesMax: number;
  heldBytes = 0;
  isLarge = false;
  waits = false;
  turnStartMs = 0;
  turnStartBytes = 0;

  constructor(request: IncomingMessage) {
    this.request = request;
    this.bytesMax = Math.min(Number(request.headers['content-length'] ?? bodyBytesMax), bodyBytesMax);
  }

  get movedBytes(): number {
    return this.heldBytes;
  }

  cut(): void {
    this.request.socket.destroy();
  }
}
