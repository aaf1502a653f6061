import { assert } from '../../base/errors.ts';
import { baseModel, type StepBatch } from '../step.ts';
import { type AdapterPool, rankBucket } from './adapter-pool.ts';
import type { Buffer, Context, Tensor } from './handles.ts';
import type { GgmlLibrary } from './library.ts';
import { MemoryMap } from './memory.ts';
import type { RowPlan } from './row-plan.ts';

/** A segment of so many rows is multiplied by its adapter's matrices by itself; smaller ones are gathered into groups. */
export const rowsAloneMin = 8;

/**
 * What a recorded graph depends on of a step's adapters: not which ones they are. Rows are gathered into `groups`, one for each place from the
 * first that the step uses, of equal length (filled up with any row), so that one batched product does for all of them.
 */
export interface AdapterShape {
  groups: number;
  /** Rows of a group; 0 where all rows with an adapter stand in segments of their own. */
  rows: number;
  /** The same of the rows whose outputs are wanted, and of those that get logits where that is not all of them. */
  wantedRows: number;
  logitRows: number;
  rank: number;
  /** Indexes of the segments that are multiplied by themselves. */
  alone: readonly number[];
}

/** A key that two shapes share if one graph serves both. */
export function adapterKey({ groups, rows, wantedRows, logitRows, rank, alone }: AdapterShape): string {
  return `${groups},${rows},${wantedRows},${logitRows},${rank},${alone.join('+')}`;
}

const int32Type = 26;

/** Two lists of row numbers: which row stands in each place of the groups, and in which place each row's result is. */
interface RowLists {
  gather: Int32Array;
  places: Int32Array;
  gatherAddress: number;
  placesAddress: number;
}

/** Which rows use which adapter, in memory that all recorded graphs read. */
export class AdapterRows {
  readonly #pool: AdapterPool;
  readonly #library: GgmlLibrary;
  readonly #map: MemoryMap;
  readonly #buffer: Buffer;
  /** Of all rows, of those whose outputs are wanted, and of those that get logits. */
  readonly all: RowLists;
  readonly wanted: RowLists;
  readonly logits: RowLists;
  /** By group: rows in it; by row: its group and its place there. */
  readonly #lengths: Int32Array;
  readonly #groups: Int32Array;
  readonly #within: Int32Array;
  /** The first place that the step uses. */
  firstPlace = 0;

  constructor(library: GgmlLibrary, pool: AdapterPool, batchTokensMax: number) {
    this.#library = library;
    this.#pool = pool;
    const places = pool.basePlace + 1;
    // A group's length is a power of two.
    const gatherMax = places * 2 * batchTokensMax;
    const listBytes = (gatherMax + batchTokensMax) * Int32Array.BYTES_PER_ELEMENT;
    this.#map = MemoryMap.anonymous(3 * listBytes, 'row numbers of adapters');
    this.#buffer = library.ggml.ggml_backend_cpu_buffer_from_ptr(BigInt(this.#map.address), this.#map.bytes);
    const lists = (offset: number): RowLists => ({
      gather: new Int32Array(this.#map.view(offset, gatherMax * 4)),
      places: new Int32Array(this.#map.view(offset + gatherMax * 4, batchTokensMax * 4)),
      gatherAddress: this.#map.address + offset,
      placesAddress: this.#map.address + offset + gatherMax * 4,
    });
    this.all = lists(0);
    this.wanted = lists(listBytes);
    this.logits = lists(2 * listBytes);
    this.#lengths = new Int32Array(places);
    this.#groups = new Int32Array(batchTokensMax);
    this.#within = new Int32Array(batchTokensMax);
  }

  /** A list as a tensor of i32. */
  tensor(context: Context, address: number, length: number): Tensor {
    const { ggml } = this.#library;
    const tensor = ggml.ggml_new_tensor_1d(context, int32Type, length);
    ggml.ggml_backend_tensor_alloc(this.#buffer, tensor, BigInt(address));
    return tensor;
  }

  /** Looks at a step's adapters and writes its lists. @returns undefined where no row has one */
  place(batch: StepBatch, { outputRows, logitBatchRows }: RowPlan): AdapterShape | undefined {
    const { segments } = batch;
    const { adapter } = segments;
    if (!adapter) return undefined;
    const pool = this.#pool;
    const alone: number[] = [];
    let rank = 0;
    let first = pool.basePlace;
    let last = -1;
    let usesBase = false;
    for (let index = 0; index < segments.count; index++) {
      const slot = adapter[index] as number;
      if (slot === baseModel) {
        usesBase = true;
        continue;
      }
      const place = pool.placeOf(slot);
      rank = Math.max(rank, pool.rankOf(slot));
      first = Math.min(first, place);
      last = Math.max(last, place);
      if ((segments.rows[index] as number) < rowsAloneMin) continue;
      alone.push(index);
      usesBase = true;
    }
    if (last < 0) return undefined;
    this.firstPlace = first;
    const groups = (usesBase ? pool.basePlace : last) - first + 1;
    const rows = this.#fill(this.all, batch, groups, (row) => row, rowsAloneMin);
    const isWanted = outputRows.length < batch.tokens.length;
    const wantedRows = isWanted ? this.#fillSome(this.wanted, batch, groups, outputRows) : 0;
    const logitRows = logitBatchRows ? this.#fillSome(this.logits, batch, groups, logitBatchRows) : 0;
    return { groups, rows, wantedRows, logitRows, rank: rankBucket(rank), alone };
  }

  /** @param rows of the batch, ascending */
  #fillSome(lists: RowLists, batch: StepBatch, groups: number, rows: Int32Array): number {
    let next = 0;
    const numberOf = (row: number): number => {
      if (next >= rows.length || rows[next] !== row) return -1;
      return next++;
    };
    return this.#fill(lists, batch, groups, numberOf, Number.POSITIVE_INFINITY);
  }

  /**
   * Writes both lists.
   * @param numberOf a batch row's number in the list, or −1 for one that is left out; asked once for each row in order
   * @param rowsEnd segments from so many rows on are left to themselves
   * @returns the length of a group
   */
  #fill(
    lists: RowLists,
    { segments }: StepBatch,
    groups: number,
    numberOf: (row: number) => number,
    rowsEnd: number,
  ): number {
    const { adapter, count } = segments;
    assert(adapter, 'a step with adapters');
    const lengths = this.#lengths.fill(0);
    let row = 0;
    let numbers = 0;
    for (let index = 0; index < count; index++) {
      const own = segments.rows[index] as number;
      const slot = adapter[index] as number;
      const isGrouped = slot !== baseModel && own < rowsEnd;
      const group = isGrouped ? this.#pool.placeOf(slot) - this.firstPlace : -1;
      for (let i = 0; i < own; i++) {
        const number = numberOf(row++);
        if (number < 0) continue;
        this.#groups[number] = group;
        if (group >= 0) {
          this.#within[number] = lengths[group] as number;
          lengths[group] = (lengths[group] as number) + 1;
        }
        numbers++;
      }
    }
    let longest = 0;
    for (let group = 0; group < groups; group++) longest = Math.max(longest, lengths[group] as number);
    if (longest > 0) this.#number(lists, groups, powerOfTwo(longest), numbers);
    return longest === 0 ? 0 : powerOfTwo(longest);
  }

  /** Rows without an adapter have their result in the last group, which is of zeros. */
  #number({ gather, places }: RowLists, groups: number, rows: number, numbers: number): void {
    gather.fill(0, 0, groups * rows);
    for (let number = 0; number < numbers; number++) {
      const group = this.#groups[number] as number;
      const place = group < 0 ? (groups - 1) * rows : group * rows + (this.#within[number] as number);
      places[number] = place;
      if (group >= 0) gather[place] = number;
    }
  }

  close(): void {
    this.#library.ggml.ggml_backend_buffer_free(this.#buffer);
    this.#map.close();
  }
}

function powerOfTwo(count: number): number {
  let power = 1;
  while (power < count) power *= 2;
  return power;
}
