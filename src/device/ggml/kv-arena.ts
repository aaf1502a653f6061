import { definite } from '../../base/errors.ts';
import { type DType, dtypes } from '../../graph/dtype.ts';
import type { KvSpec } from '../../graph/graph.ts';
import type { KvDtype } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { Buffer } from './handles.ts';
import type { GgmlLibrary } from './library.ts';
import { MemoryMap, pageBytes } from './memory.ts';

/** What ggml's attention reads. */
export type GgmlKvType = Exclude<KvDtype, 'fp8'>;

/** @throws DeviceError for a type that ggml lacks */
export function ggmlKvType(dtype: KvDtype): GgmlKvType {
  if (dtype !== 'fp8') return dtype;
  const fix = 'give --kv-dtype q8_0 for 8 bits, or --device cuda';
  throw new DeviceError('DEVICE_DTYPE_UNSUPPORTED', `the ggml device has no fp8 KV cache: ${fix}`);
}

/** Bytes that so many elements take; they are whole blocks. */
export function kvBytes(dtype: DType, elements: number): number {
  const { blockElements, blockBytes } = dtypes[dtype];
  return (elements / blockElements) * blockBytes;
}

/** @throws DeviceError where a head is not a whole number of the type's blocks */
function checkHead(dtype: GgmlKvType, elements: number): void {
  if (elements % dtypes[dtype].blockElements === 0) return;
  const problem = `a KV cache of ${dtype} has blocks of ${dtypes[dtype].blockElements} elements, and this model's heads have ${elements}`;
  throw new DeviceError('DEVICE_DTYPE_UNSUPPORTED', `${problem}: give --kv-dtype f16`);
}

/** One layer's heads, as its attention op names them. */
export interface KvHeads {
  kvHeads: number;
  headDimension: number;
  valueHeadDimension: number;
}

/** Where one layer's rows lie in a slot. A row is one position of one head: its key, then its value. */
export interface KvLayerLayout extends KvHeads {
  /** From the slot's start; `headBytes` from one head to the next. */
  offset: number;
  headBytes: number;
  rowBytes: number;
  /** Where the value starts in a row. */
  valueOffset: number;
  /** Which of {@link KvArena.rowClasses} the layer's rows belong to. */
  rowClass: number;
  window: number | undefined;
}

/** Layers whose rows are numbered alike, so that one list of row indices serves them all. */
export interface KvRowClass {
  rowBytes: number;
  kvHeads: number;
}

/**
 * The KV cache of all slots: one sparse mapping, `[slot][layer][head][position][key | value]`. Attention walks one head's positions at a time, so
 * these follow each other in memory: measured a quarter faster than all heads of a position side by side. A slot takes up memory only as far as
 * it was written, and gives it back as whole pages. A slot's size is a multiple of every row size, so that row numbers are whole.
 */
export class KvArena {
  readonly layers: readonly KvLayerLayout[];
  readonly rowClasses: readonly KvRowClass[];
  /** Positions of one head. */
  readonly contextLength: number;
  readonly slotBytes: number;
  readonly bytesPerPosition: number;
  readonly #dtype: GgmlKvType;
  readonly buffer: Buffer;
  readonly #library: GgmlLibrary;
  readonly #map: MemoryMap;

  constructor(
    library: GgmlLibrary,
    spec: KvSpec,
    heads: readonly KvHeads[],
    options: { slots: number; contextLength: number; dtype: GgmlKvType },
  ) {
    this.#library = library;
    this.contextLength = options.contextLength;
    this.#dtype = options.dtype;
    for (const { headDimension, valueHeadDimension } of heads) {
      checkHead(options.dtype, headDimension);
      checkHead(options.dtype, valueHeadDimension);
    }
    const rowClasses: KvRowClass[] = [];
    let offset = 0;
    this.layers = spec.layers.map((layer, index) => {
      const own = definite(heads[index], `heads of KV layer ${index}`);
      const layout = { ...own, ...this.#rows(own, rowClasses), offset, window: layer.window };
      offset += roundUp(layout.headBytes * own.kvHeads, pageBytes);
      return layout;
    });
    this.rowClasses = rowClasses;
    const rowBytes = this.layers.map((layer) => layer.rowBytes);
    this.slotBytes = roundUp(offset, rowBytes.reduce(leastCommonMultiple, pageBytes));
    this.bytesPerPosition = this.layers.reduce((sum, layer) => sum + layer.rowBytes * layer.kvHeads, 0);
    this.#map = MemoryMap.anonymous(this.slotBytes * options.slots, `the KV cache of ${options.slots} slots`);
    this.buffer = library.ggml.ggml_backend_cpu_buffer_from_ptr(BigInt(this.#map.address), this.#map.bytes);
  }

  #rows(heads: KvHeads, rowClasses: KvRowClass[]) {
    const { kvHeads, headDimension, valueHeadDimension } = heads;
    const valueOffset = kvBytes(this.#dtype, headDimension);
    const rowBytes = valueOffset + kvBytes(this.#dtype, valueHeadDimension);
    const same = (known: KvRowClass) => known.rowBytes === rowBytes && known.kvHeads === kvHeads;
    if (!rowClasses.some(same)) rowClasses.push({ rowBytes, kvHeads });
    return {
      rowBytes,
      headBytes: rowBytes * this.contextLength,
      valueOffset,
      rowClass: rowClasses.findIndex(same),
    };
  }

  get address(): number {
    return this.#map.address;
  }

  get bytes(): number {
    return this.#map.bytes;
  }

  /** Copies positions [0, length) of one slot to another, head by head. */
  copySlot(from: number, to: number, length: number): void {
    for (const layer of this.layers) {
      for (let head = 0; head < layer.kvHeads; head++) {
        const offset = layer.offset + head * layer.headBytes;
        this.#map.copy(to * this.slotBytes + offset, from * this.slotBytes + offset, length * layer.rowBytes);
      }
    }
  }

  releaseSlot(slot: number): void {
    this.#map.discard(slot * this.slotBytes, this.slotBytes);
  }

  close(): void {
    this.#library.ggml.ggml_backend_buffer_free(this.buffer);
    this.#map.close();
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return (a / x) * b;
}
