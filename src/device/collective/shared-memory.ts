import { assert } from '../../base/errors.ts';
import { DeviceError } from '../errors.ts';
import { type Collective, columnsOf, placeColumns } from './collective.ts';
import { checkRegion, regionElements, regionLayout } from './shared-region.ts';

/** How long a rank waits for the others unless told otherwise: a first step may read all weights from a slow disk. */
export const collectiveTimeoutMsDefault = 120_000;

/**
 * How a wait goes on: some looks at the counters at once, then with the processor offered to others, then asleep until it is woken. Looking for longer
 * takes the processor that a late rank needs: 0.3 ms of it cost a fifth of the throughput on a machine with other work.
 */
const looksAtOnce = 1_000;
const yieldingMs = 0.05;

/** What a wait needs of the system. */
export interface WaitCalls {
  nowMs(): number;
  /** Offers the processor to another thread. */
  yieldProcessor(): void;
  /** Sleeps until {@link wake} is called for the i32 at this byte offset of the memory, at most a moment; at once if it is not `value`. */
  sleep(offset: number, value: number): void;
  wake(offset: number): void;
}

/**
 * A group on one host, over memory that all its ranks map (processes) or hold (threads). Each rank writes its values into a buffer of its own,
 * raises its counter and waits for the others'. With two buffers a rank nobody overwrites what another still reads: whoever writes exchange
 * n + 2 has seen all others begin n + 1, so they are done with n.
 */
export class SharedMemoryCollective implements Collective {
  readonly rank: number;
  readonly ranks: number;
  readonly #counters: readonly Int32Array[];
  readonly #buffers: readonly (readonly Float32Array[])[];
  readonly #calls: WaitCalls;
  readonly #timeoutMs: number;
  readonly #close: () => void;
  /** By rank: how many sleep until its counter rises. */
  readonly #sleepers: readonly Int32Array[];
  readonly #offsets: readonly number[];
  #exchange = 0;

  /**
   * @param memory of `regionLayout(ranks).bytes`, its header written
   * @param close gives the memory back
   * @throws DeviceError for memory of another version or group
   */
  constructor(
    memory: ArrayBuffer | SharedArrayBuffer,
    rank: number,
    ranks: number,
    calls: WaitCalls,
    options: { timeoutMs?: number; close?: () => void } = {},
  ) {
    checkRegion(memory as ArrayBuffer, ranks);
    const layout = regionLayout(ranks);
    const indexes = Array.from({ length: ranks }, (_, index) => index);
    this.rank = rank;
    this.ranks = ranks;
    this.#calls = calls;
    this.#timeoutMs = options.timeoutMs ?? collectiveTimeoutMsDefault;
    this.#close = options.close ?? (() => {});
    this.#offsets = indexes.map((index) => layout.counter(index));
    this.#sleepers = indexes.map((index) => new Int32Array(memory, layout.sleepers(index), 1));
    this.#counters = indexes.map((index) => new Int32Array(memory, layout.counter(index), 1));
    this.#buffers = indexes.map((index) =>
      [0, 1].map((which) => new Float32Array(memory, layout.buffer(index, which), regionElements)),
    );
  }

  allReduce(values: Float32Array): void {
    for (let start = 0; start < values.length; start += regionElements) {
      const part = values.subarray(start, start + regionElements);
      const buffers = this.#publish(part);
      if (this.ranks === 2) {
        // The same bits in either order, so that nothing is copied back.
        add(part, buffers[1 - this.rank] as Float32Array);
        continue;
      }
      part.set((buffers[0] as Float32Array).subarray(0, part.length));
      for (let rank = 1; rank < this.ranks; rank++) add(part, buffers[rank] as Float32Array);
    }
  }

  allGather(own: Float32Array, widths: readonly number[], joined: Float32Array): void {
    const rows = own.length / (widths[this.rank] ?? 1);
    assert(widths.length === this.ranks && Number.isInteger(rows), 'a width for each rank');
    const most = rows * Math.max(...widths);
    for (let start = 0; start < most; start += regionElements) {
      const buffers = this.#publish(own.subarray(start, start + regionElements));
      for (let rank = 0; rank < this.ranks; rank++) {
        const columns = columnsOf(widths, rank);
        const count = Math.max(0, Math.min(regionElements, rows * columns.width - start));
        placeColumns((buffers[rank] as Float32Array).subarray(0, count), start, columns, joined);
      }
    }
  }

  close(): void {
    this.#close();
  }

  /** Shows the others this rank's values, and waits for theirs. @returns each rank's buffer */
  #publish(values: Float32Array): Float32Array[] {
    this.#exchange = (this.#exchange + 1) | 0;
    const which = this.#exchange & 1;
    const buffers = this.#buffers.map((pair) => pair[which] as Float32Array);
    (buffers[this.rank] as Float32Array).set(values);
    Atomics.store(this.#counters[this.rank] as Int32Array, 0, this.#exchange);
    if (Atomics.load(this.#sleepers[this.rank] as Int32Array, 0) > 0)
      this.#calls.wake(this.#offsets[this.rank] as number);
    for (let rank = 0; rank < this.ranks; rank++) if (rank !== this.rank) this.#await(rank);
    return buffers;
  }

  #await(rank: number): void {
    const counter = this.#counters[rank] as Int32Array;
    for (let look = 0; look < looksAtOnce; look++) if (this.#hasCome(counter)) return;
    const startedMs = this.#calls.nowMs();
    for (;;) {
      this.#calls.yieldProcessor();
      if (this.#hasCome(counter)) return;
      const waitedMs = this.#calls.nowMs() - startedMs;
      if (waitedMs > this.#timeoutMs) {
        const problem = `rank ${rank} did not come to exchange ${this.#exchange} within ${this.#timeoutMs} ms (collectiveTimeoutMs)`;
        throw new DeviceError('DEVICE_FAILED', `${problem}: it hangs or died, and the group restarts`);
      }
      if (waitedMs > yieldingMs) this.#sleep(rank, counter);
    }
  }

  #sleep(rank: number, counter: Int32Array): void {
    const sleepers = this.#sleepers[rank] as Int32Array;
    Atomics.add(sleepers, 0, 1);
    const seen = Atomics.load(counter, 0);
    // Whoever raises it from here on sees that somebody sleeps.
    if (!this.#hasCome(counter)) this.#calls.sleep(this.#offsets[rank] as number, seen);
    Atomics.sub(sleepers, 0, 1);
  }

  /** Counters wrap around. */
  #hasCome(counter: Int32Array): boolean {
    return ((Atomics.load(counter, 0) - this.#exchange) | 0) >= 0;
  }
}

function add(sum: Float32Array, values: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (values[i] as number);
}
