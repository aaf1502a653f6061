import { type Clock, systemClock } from '../base/clock.ts';

/** Something that keeps bytes in memory for a client: a connection with unread answers, an answer being gathered, a body that arrives. */
export interface ByteHolder {
  /** Bytes kept now. */
  readonly heldBytes: number;
  /** Bytes that ever moved on (were read, were made, arrived): a holder of which this stands still is stalled. */
  readonly movedBytes: number;
  /** Gives the bytes back at once: the client is cut off, or told. */
  cut(): void;
}

/** Bounds of a {@link ByteBudget}. */
export interface ByteBudgetOptions {
  /** What all holders may keep together. */
  bytesMax: number;
  /** A holder that has kept bytes for so long and moved none is cut. */
  stallTimeoutMs: number;
  clock?: Clock;
}

interface Entry {
  bytes: number;
  moved: number;
  /** When it last moved, on the clock. */
  movedMs: number;
}

/** How often holders are looked at that report nothing by themselves: those whose client does not move. */
const sweepIntervalMs = 1_000;
/** Holders that moved within this time are told apart by size, others by how long they stand still. */
const movingWithinMs = 1_000;

/**
 * One bound on the bytes that clients make a process keep. Nobody is refused while there is room; beyond it those are cut whose client has
 * stood still the longest, then the largest, until the rest fits: a client that reads (or sends) is never harmed by those that do not.
 */
export class ByteBudget {
  readonly #entries = new Map<ByteHolder, Entry>();
  readonly #bytesMax: number;
  readonly #stallTimeoutMs: number;
  readonly #clock: Clock;
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #cuts = 0;

  constructor({ bytesMax, stallTimeoutMs, clock = systemClock }: ByteBudgetOptions) {
    this.#bytesMax = bytesMax;
    this.#stallTimeoutMs = stallTimeoutMs;
    this.#clock = clock;
  }

  /** Bytes kept by all holders, as last heard. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Holders cut so far. */
  get cuts(): number {
    return this.#cuts;
  }

  /** To be told whenever a holder keeps more or less than before. One that keeps nothing is forgotten. */
  update(holder: ByteHolder): void {
    this.#refresh(holder, this.#clock.nowNs() / 1e6);
    if (this.#bytes > this.#bytesMax) this.#relieve();
  }

  /** The holder is gone, with its bytes. */
  remove(holder: ByteHolder): void {
    const entry = this.#entries.get(holder);
    if (!entry) return;
    this.#bytes -= entry.bytes;
    this.#entries.delete(holder);
    if (this.#entries.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Cuts holders that stand still for too long. A timer calls it while there are any. */
  sweep(): void {
    const nowMs = this.#clock.nowNs() / 1e6;
    for (const holder of [...this.#entries.keys()]) {
      const entry = this.#refresh(holder, nowMs);
      if (entry && nowMs - entry.movedMs >= this.#stallTimeoutMs) this.#cut(holder);
    }
  }

  #refresh(holder: ByteHolder, nowMs: number): Entry | undefined {
    const bytes = holder.heldBytes;
    if (bytes === 0) {
      this.remove(holder);
      return undefined;
    }
    let entry = this.#entries.get(holder);
    if (!entry) {
      entry = { bytes: 0, moved: holder.movedBytes, movedMs: nowMs };
      this.#entries.set(holder, entry);
      this.#timer ??= setInterval(() => this.sweep(), sweepIntervalMs).unref();
    }
    this.#bytes += bytes - entry.bytes;
    entry.bytes = bytes;
    const moved = holder.movedBytes;
    if (moved !== entry.moved) {
      entry.moved = moved;
      entry.movedMs = nowMs;
    }
    return entry;
  }

  #relieve(): void {
    const nowMs = this.#clock.nowNs() / 1e6;
    const candidates: { holder: ByteHolder; bytes: number; stillMs: number }[] = [];
    for (const holder of [...this.#entries.keys()]) {
      const entry = this.#refresh(holder, nowMs);
      if (!entry) continue;
      const stillMs = nowMs - entry.movedMs;
      candidates.push({ holder, bytes: entry.bytes, stillMs: stillMs < movingWithinMs ? 0 : stillMs });
    }
    candidates.sort((a, b) => b.stillMs - a.stillMs || b.bytes - a.bytes);
    for (const { holder } of candidates) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#cut(holder);
    }
  }

  #cut(holder: ByteHolder): void {
    this.remove(holder);
    this.#cuts++;
    holder.cut();
  }
}
