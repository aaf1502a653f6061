import { definite } from '../../base/errors.ts';
import type { AdapterRoom, LinearShapes } from '../adapters.ts';
import { type AdapterChange, type AdapterPart, AdapterTable, type AdapterTensors } from '../adapters.ts';
import type { Buffer } from './handles.ts';
import type { GgmlLibrary } from './library.ts';
import { MemoryMap } from './memory.ts';

const elementBytes = 4;

/** Where one linear's low-rank matrices lie: of all places side by side, so that neighbouring ones are one tensor. */
export interface AdapterMatrices {
  inputs: number;
  outputs: number;
  buffer: Buffer;
  /** Of A: [places, rankCapacity, inputs] float32. */
  aAddress: number;
  aPlaceBytes: number;
  /** Of B, transposed: [places, rankCapacity, outputs] float32. */
  bAddress: number;
  bPlaceBytes: number;
}

interface Allocated extends AdapterMatrices {
  map: MemoryMap;
}

/**
 * The matrices of the adapters that are on the ggml device. Each linear has its own memory, made when the first adapter changes it, which takes
 * up room only where it is written. A slot's place is counted from the end, where a place of zeros follows: rows without an adapter use that, and
 * the places in use lie next to it.
 */
export class AdapterPool {
  readonly table: AdapterTable;
  /** Of rows of A that a place has. */
  readonly rankCapacity: number;
  readonly #library: GgmlLibrary;
  readonly #matrices = new Map<string, Allocated>();
  readonly #loaded = new Map<number, AdapterTensors>();
  /** Counts changes of which linears have matrices: graphs recorded before lack some. */
  version = 0;

  constructor(library: GgmlLibrary, room: AdapterRoom, linears: LinearShapes) {
    this.#library = library;
    this.table = new AdapterTable(room, linears);
    this.rankCapacity = rankBucket(room.rankMax);
  }

  /** The place of zeros. */
  get basePlace(): number {
    return this.table.slots;
  }

  placeOf(slot: number): number {
    return this.table.slots - 1 - slot;
  }

  has(slot: number): boolean {
    return this.#loaded.has(slot);
  }

  /** The rank of a slot's adapter. */
  rankOf(slot: number): number {
    return definite(this.#loaded.get(slot), 'an adapter in the slot').rank;
  }

  /** Absent for a linear that no adapter has changed yet. */
  matrices(linear: string): AdapterMatrices | undefined {
    return this.#matrices.get(linear);
  }

  /** Does what changed since the last launch. */
  settle(): void {
    for (const change of this.table.takeChanges()) this.#change(change);
  }

  #change({ slot, tensors }: AdapterChange): void {
    const before = this.#loaded.get(slot);
    for (const part of before?.parts ?? []) this.#clear(slot, part);
    this.#loaded.delete(slot);
    if (!tensors) return;
    for (const part of tensors.parts) this.#write(slot, part);
    this.#loaded.set(slot, tensors);
  }

  #write(slot: number, part: AdapterPart): void {
    const { rank, outputs } = part;
    const matrices = this.#matrices.get(part.name) ?? this.#allocate(part);
    this.#viewA(matrices, slot, rank).set(part.a);
    const b = this.#viewB(matrices, slot, rank);
    for (let row = 0; row < outputs; row++) {
      for (let r = 0; r < rank; r++) b[r * outputs + row] = part.b[row * rank + r] as number;
    }
  }

  #clear(slot: number, { name, rank }: AdapterPart): void {
    const matrices = definite(this.#matrices.get(name), `the matrices of ${name}`);
    this.#viewA(matrices, slot, rank).fill(0);
    this.#viewB(matrices, slot, rank).fill(0);
  }

  #viewA({ map, aAddress, aPlaceBytes, inputs }: Allocated, slot: number, rank: number): Float32Array {
    const offset = aAddress - map.address + this.placeOf(slot) * aPlaceBytes;
    return new Float32Array(map.view(offset, rank * inputs * elementBytes), 0, rank * inputs);
  }

  #viewB({ map, bAddress, bPlaceBytes, outputs }: Allocated, slot: number, rank: number): Float32Array {
    const offset = bAddress - map.address + this.placeOf(slot) * bPlaceBytes;
    return new Float32Array(map.view(offset, rank * outputs * elementBytes), 0, rank * outputs);
  }

  #allocate({ name, inputs, outputs }: AdapterPart): Allocated {
    const places = this.table.slots + 1;
    const aPlaceBytes = this.rankCapacity * inputs * elementBytes;
    const bPlaceBytes = this.rankCapacity * outputs * elementBytes;
    const map = MemoryMap.anonymous(places * (aPlaceBytes + bPlaceBytes), `LoRA adapters of ${name}`);
    const buffer = this.#library.ggml.ggml_backend_cpu_buffer_from_ptr(BigInt(map.address), map.bytes);
    const bAddress = map.address + places * aPlaceBytes;
    const own = { map, inputs, outputs, buffer, aAddress: map.address, aPlaceBytes, bAddress, bPlaceBytes };
    this.#matrices.set(name, own);
    this.version++;
    return own;
  }

  close(): void {
    for (const { buffer, map } of this.#matrices.values()) {
      this.#library.ggml.ggml_backend_buffer_free(buffer);
      map.close();
    }
    this.#matrices.clear();
  }
}

const rankLeast = 8;

/** Ranks that one recorded graph serves: the next power of two, 8 at least. */
export function rankBucket(rank: number): number {
  let bucket = rankLeast;
  while (bucket < rank) bucket *= 2;
  return bucket;
}
