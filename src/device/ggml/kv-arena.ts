import { definite } from '../../base/errors.ts';
import { dtypes } from '../../graph/dtype.ts';
import type { KvSpec } from '../../graph/graph.ts';
import type { Buffer } from './handles.ts';
import type { GgmlLibrary } from './library.ts';
import { MemoryMap, pageBytes } from './memory.ts';

/** Where one layer's rows lie in a slot. A row is one position: its keys, then its values. */
export interface KvLayerLayout {
  offset: number;
  rowBytes: number;
  /** Where the values start in a row. */
  valueOffset: number;
  /** Which of {@link KvArena.rowClasses} the layer's rows belong to. */
  rowClass: number;
  window: number | undefined;
}

/**
 * The KV cache of all slots: one sparse mapping, `[slot][layer][position][keys | values]`. A slot takes up memory only as far as it was
 * written, and gives it back as whole pages. Every layer of a slot starts at a multiple of its row size from the arena's start, so that one row
 * index serves all layers with rows of that size.
 */
export class KvArena {
  readonly layers: readonly KvLayerLayout[];
  /** Distinct row sizes, in bytes. */
  readonly rowClasses: readonly number[];
  readonly slotBytes: number;
  readonly bytesPerPosition: number;
  readonly elementBytes: number;
  readonly buffer: Buffer;
  readonly #library: GgmlLibrary;
  readonly #map: MemoryMap;

  constructor(
    library: GgmlLibrary,
    spec: KvSpec,
    options: { slots: number; contextLength: number; dtype: 'f16' | 'f32' },
  ) {
    this.#library = library;
    this.elementBytes = dtypes[options.dtype].blockBytes;
    const rowBytes = spec.layers.map(
      (layer) => (layer.keyElements + layer.valueElements) * this.elementBytes,
    );
    this.rowClasses = [...new Set(rowBytes)];
    let offset = 0;
    this.layers = spec.layers.map((layer, index) => {
      const bytes = definite(rowBytes[index], 'row bytes');
      const layout = {
        offset,
        rowBytes: bytes,
        valueOffset: layer.keyElements * this.elementBytes,
        rowClass: this.rowClasses.indexOf(bytes),
        window: layer.window,
      };
      offset += roundUp(bytes * options.contextLength, pageBytes);
      return layout;
    });
    this.slotBytes = roundUp(offset, this.rowClasses.reduce(leastCommonMultiple, pageBytes));
    this.bytesPerPosition = rowBytes.reduce((sum, bytes) => sum + bytes, 0);
    this.#map = MemoryMap.anonymous(this.slotBytes * options.slots, `the KV cache of ${options.slots} slots`);
    this.buffer = library.ggml.ggml_backend_cpu_buffer_from_ptr(BigInt(this.#map.address), this.#map.bytes);
  }

  get address(): number {
    return this.#map.address;
  }

  get bytes(): number {
    return this.#map.bytes;
  }

  /** Address of a layer's row in a slot. */
  rowAddress(slot: number, layer: KvLayerLayout, position: number): number {
    return this.address + slot * this.slotBytes + layer.offset + position * layer.rowBytes;
  }

  /** Copies positions [0, length) of one slot to another, layer by layer. */
  copySlot(from: number, to: number, length: number): void {
    for (const layer of this.layers) {
      const bytes = length * layer.rowBytes;
      this.#map.copy(to * this.slotBytes + layer.offset, from * this.slotBytes + layer.offset, bytes);
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
