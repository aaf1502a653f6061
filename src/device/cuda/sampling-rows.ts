import { logprobsMax } from '../../base/limits.ts';
import { type OutputTable, type RowLogprobs, want } from '../step.ts';
import type { DevicePointer } from './driver.ts';
import type { Gpu } from './gpu.ts';
import { HostMemory } from './host-memory.ts';
import { MemoryPool } from './memory-pool.ts';
import { SamplingStates } from './sampling-states.ts';

/** What some rows of a step need beyond their temperature and cuts: columns of [R], addresses on the GPU, 0 for none. */
export interface SamplingRows {
  readonly states: Float64Array;
  /** Room for the changed logits of a row with a state. */
  readonly adjusted: Float64Array;
  readonly logprobs: Float64Array;
  /** How many of the likeliest each row with log-probabilities reports. */
  readonly top: number;
}

/** What of a step's choosing lies in page-locked memory until the step is collected. */
export interface SamplingMemory {
  staging: HostMemory | undefined;
  logprobs: HostMemory | undefined;
}

/** Log-probabilities of one step, on their way to the host. */
export interface PendingLogprobs {
  readonly rows: number;
  readonly top: number;
}

/** Words of a row's log-probabilities: the chosen token's, ids, values. */
const wordsOf = (top: number) => 1 + 2 * top;

/** What the sampling kernel needs for rows with a state or log-probabilities; made when the first of them comes. */
export class SamplingRoom {
  readonly #gpu: Gpu;
  readonly #vocabularySize: number;
  readonly #states: SamplingStates;
  #adjusted: { pool: MemoryPool; at: DevicePointer; rows: number } | undefined;
  #logprobs: { pool: MemoryPool; at: DevicePointer; rows: number } | undefined;

  constructor(gpu: Gpu, vocabularySize: number) {
    this.#gpu = gpu;
    this.#vocabularySize = vocabularySize;
    this.#states = new SamplingStates(gpu, vocabularySize);
  }

  /**
   * Loads states and finds room for a step's rows.
   * @returns nothing where all rows are plain ones
   */
  prepare(outputs: OutputTable, memory: SamplingMemory): SamplingRows | undefined {
    const { count, wants, sampling } = outputs;
    memory.staging = this.#states.load(sampling.loads, memory.staging);
    let stateful = 0;
    let reported = 0;
    let top = 0;
    for (let row = 0; row < count; row++) {
      const wanted = wants[row] as number;
      if (!(wanted & want.token)) continue;
      if ((sampling.state[row] as number) >= 0) stateful++;
      if (!(wanted & want.logprobs)) continue;
      reported++;
      top = Math.max(top, sampling.topLogprobs[row] as number);
    }
    if (stateful === 0 && reported === 0) return undefined;
    const rowBytes = this.#vocabularySize * 4;
    if (stateful > 0) this.#adjusted = this.#roomFor(this.#adjusted, stateful, rowBytes);
    if (reported > 0) this.#logprobs = this.#roomFor(this.#logprobs, reported, wordsOf(logprobsMax) * 4);
    return this.#columns(outputs, top);
  }

  #columns({ count, wants, sampling }: OutputTable, top: number): SamplingRows {
    const column = () => new Float64Array(count);
    const rows = { states: column(), adjusted: column(), logprobs: column(), top };
    let adjusted = this.#adjusted?.at ?? 0;
    let logprobs = this.#logprobs?.at ?? 0;
    for (let row = 0; row < count; row++) {
      const wanted = wants[row] as number;
      if (!(wanted & want.token)) continue;
      const state = sampling.state[row] as number;
      if (state >= 0) {
        rows.states[row] = this.#states.addressOf(state);
        rows.adjusted[row] = adjusted;
        adjusted += this.#vocabularySize * 4;
      }
      if (!(wanted & want.logprobs)) continue;
      rows.logprobs[row] = logprobs;
      logprobs += wordsOf(top) * 4;
    }
    return rows;
  }

  #roomFor(
    room: { pool: MemoryPool; at: DevicePointer; rows: number } | undefined,
    rows: number,
    rowBytes: number,
  ) {
    if (room && room.rows >= rows) return room;
    // Steps in flight still write there.
    this.#gpu.synchronize();
    room?.pool.close();
    const pool = new MemoryPool(this.#gpu.driver);
    const grown = 2 ** Math.ceil(Math.log2(rows));
    return { pool, at: pool.take(grown * rowBytes), rows: grown };
  }

  /** Queues the copy of a step's log-probabilities to the host, behind its kernels. */
  fetch(rows: SamplingRows, memory: SamplingMemory): PendingLogprobs | undefined {
    const count = rows.logprobs.reduce((sum, address) => sum + (address > 0 ? 1 : 0), 0);
    if (count === 0 || !this.#logprobs) return undefined;
    const { driver, stream } = this.#gpu;
    const bytes = count * wordsOf(rows.top) * 4;
    memory.logprobs = HostMemory.atLeast(driver, bytes, memory.logprobs);
    driver.cuMemcpyDtoHAsync_v2(memory.logprobs.address, this.#logprobs.at, bytes, stream);
    return { rows: count, top: rows.top };
  }

  close(): void {
    this.#states.close();
    this.#adjusted?.pool.close();
    this.#logprobs?.pool.close();
  }
}

/** Log-probabilities that arrived. */
export function readLogprobs({ rows, top }: PendingLogprobs, { words, floats }: HostMemory): RowLogprobs {
  const result = {
    chosen: new Float64Array(rows),
    perRow: top,
    ids: new Int32Array(rows * top),
    values: new Float32Array(rows * top),
  };
  for (let row = 0; row < rows; row++) {
    const at = row * wordsOf(top);
    result.chosen[row] = floats[at] as number;
    result.ids.set(words.subarray(at + 1, at + 1 + top), row * top);
    result.values.set(floats.subarray(at + 1 + top, at + 1 + 2 * top), row * top);
  }
  return result;
}
