import { definite } from '../../base/errors.ts';
import { f32ToBf16, f32ToF16 } from '../../base/half.ts';
import {
  type AdapterPart,
  type AdapterRoom,
  AdapterTable,
  type AdapterTensors,
  adapterRankRows,
  adapterRankUnit,
  type LinearShapes,
} from '../adapters.ts';
import type { DevicePointer } from './driver.ts';
import type { Gpu } from './gpu.ts';
import type { MemoryPool } from './memory-pool.ts';
import { type ActivationType, elementBytes } from './views.ts';

/** Where a linear's low-rank matrices lie in every page, in elements; and its column of the table of ranks. */
export interface AdapterPlace {
  readonly linear: number;
  readonly aOffset: number;
  readonly bOffset: number;
}

type Elements = Float32Array | Uint16Array;

/**
 * The adapters that are on the GPU. Their memory is pages of {@link adapterRankUnit} ranks of every linear of the model ([8, inputs] of A,
 * [outputs, 8] of B), so that adapters of any rank come and go without gaps; kernels find them through tables by slot.
 */
export class AdapterPool {
  readonly table: AdapterTable;
  /** Ranks by [slot, linear]; pages' addresses by [slot, {@link pagesMax}]. */
  readonly ranks: DevicePointer;
  readonly pages: DevicePointer;
  readonly pagesMax: number;
  readonly linears: number;
  readonly #gpu: Gpu;
  readonly #type: ActivationType;
  readonly #places = new Map<string, AdapterPlace>();
  readonly #pageElements: number;
  readonly #free: DevicePointer[];
  readonly #ranks: Int32Array;
  readonly #pages: BigUint64Array;
  readonly #loaded = new Map<number, DevicePointer[]>();
  readonly bytes: number;

  constructor(gpu: Gpu, pool: MemoryPool, type: ActivationType, room: AdapterRoom, linears: LinearShapes) {
    this.#gpu = gpu;
    this.#type = type;
    this.table = new AdapterTable(room, linears);
    let elements = 0;
    for (const [name, { inputs, outputs }] of linears) {
      const bOffset = elements + adapterRankUnit * inputs;
      this.#places.set(name, { linear: this.#places.size, aOffset: elements, bOffset });
      elements = bOffset + adapterRankUnit * outputs;
    }
    this.#pageElements = elements;
    this.linears = linears.size;
    this.pagesMax = Math.ceil(room.rankMax / adapterRankUnit);
    const pageBytes = elements * elementBytes(type);
    const count = Math.ceil(room.rankRows / adapterRankUnit);
    const at = pool.take(count * pageBytes);
    this.#free = Array.from({ length: count }, (_, page) => at + page * pageBytes);
    this.#ranks = new Int32Array(room.slots * this.linears);
    this.#pages = new BigUint64Array(room.slots * this.pagesMax);
    this.ranks = pool.take(this.#ranks.byteLength);
    this.pages = pool.take(this.#pages.byteLength);
    this.bytes = count * pageBytes;
  }

  /** The largest rank, in whole pages. */
  get rankMax(): number {
    return this.pagesMax * adapterRankUnit;
  }

  placeOf(linear: string): AdapterPlace {
    return definite(this.#places.get(linear), `a place for adapters of '${linear}'`);
  }

  has(slot: number): boolean {
    return this.#loaded.has(slot);
  }

  /** Does what changed since the last launch; steps in flight end first, which see what was there before. */
  settle(): void {
    const changes = this.table.takeChanges();
    if (changes.length === 0) return;
    this.#gpu.synchronize();
    for (const { slot, tensors } of changes) {
      this.#unload(slot);
      if (tensors) this.#load(slot, tensors);
    }
    this.#upload(this.#ranks, this.ranks);
    this.#upload(this.#pages, this.pages);
  }

  #unload(slot: number): void {
    this.#free.push(...(this.#loaded.get(slot) ?? []));
    this.#loaded.delete(slot);
    this.#ranks.fill(0, slot * this.linears, (slot + 1) * this.linears);
  }

  #load(slot: number, tensors: AdapterTensors): void {
    const pages: DevicePointer[] = [];
    for (let first = 0; first < adapterRankRows(tensors); first += adapterRankUnit) {
      const page = definite(this.#free.pop(), 'a free page, as the table counts them');
      this.#pages[slot * this.pagesMax + pages.length] = BigInt(page);
      pages.push(page);
      this.#upload(this.#pageOf(tensors, first), page);
    }
    for (const { name, rank } of tensors.parts)
      this.#ranks[slot * this.linears + this.placeOf(name).linear] = rank;
    this.#loaded.set(slot, pages);
  }

  /** Ranks from `first` on of all parts, as they lie in a page. */
  #pageOf({ parts }: AdapterTensors, first: number): Elements {
    const isFloat = this.#type === 'f32';
    const page = isFloat ? new Float32Array(this.#pageElements) : new Uint16Array(this.#pageElements);
    const encode = isFloat ? (value: number) => value : this.#type === 'f16' ? f32ToF16 : f32ToBf16;
    for (const part of parts) writePart(page, part, first, this.placeOf(part.name), encode);
    return page;
  }

  #upload(values: Elements | Int32Array | BigUint64Array, at: DevicePointer): void {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.#gpu.driver.cuMemcpyHtoD_v2(at, bytes, bytes.length);
  }
}

function writePart(
  page: Elements,
  { rank, inputs, outputs, a, b }: AdapterPart,
  first: number,
  { aOffset, bOffset }: AdapterPlace,
  encode: (value: number) => number,
): void {
  const count = Math.min(adapterRankUnit, rank - first);
  for (let k = 0; k < count; k++) {
    const row = (first + k) * inputs;
    for (let i = 0; i < inputs; i++) page[aOffset + k * inputs + i] = encode(a[row + i] as number);
    for (let o = 0; o < outputs; o++)
      page[bOffset + o * adapterRankUnit + k] = encode(b[o * rank + first + k] as number);
  }
}
