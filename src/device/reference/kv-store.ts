import { definite } from '../../base/errors.ts';
import { f16ToF32, f32ToF16 } from '../../base/half.ts';
import type { KvSpec } from '../../graph/graph.ts';
import type { DeviceModelOptions } from '../device.ts';
import { DeviceError } from '../errors.ts';

/** Slots grow by doubling from here. */
const positionsMin = 16;

/** One layer's cached rows of one slot. */
export interface KvRows {
  /** [positions, keyElements] and [positions, valueElements]. */
  keys: Float32Array;
  values: Float32Array;
}

interface Slot {
  /** Positions that hold something. */
  length: number;
  layers: KvRows[];
}

/**
 * The KV cache as plain float32 arrays, a slot per sequence. What was never written, or was released, is NaN, so that reading it spoils
 * the logits visibly. With `kvDtype` f16 every element is rounded to a half on its way in.
 */
export class KvStore {
  readonly #spec: KvSpec;
  readonly #slots: Slot[];
  readonly #halves: boolean;

  constructor(spec: KvSpec, { slots, kvDtype }: Pick<DeviceModelOptions, 'slots' | 'kvDtype'>) {
    this.#spec = spec;
    this.#halves = kvDtype === 'f16';
    this.#slots = Array.from({ length: slots }, () => ({ length: 0, layers: emptyLayers(spec) }));
  }

  /** Bytes of one position in all layers, as this store holds them. */
  get bytesPerPosition(): number {
    const elements = this.#spec.layers.reduce(
      (sum, layer) => sum + layer.keyElements + layer.valueElements,
      0,
    );
    return elements * Float32Array.BYTES_PER_ELEMENT;
  }

  /**
   * Makes a slot `kvLength` positions long, of which the last `rows` are about to be written.
   * @throws DeviceError where positions before them hold nothing
   */
  extend(slotIndex: number, kvLength: number, rows: number): void {
    const slot = this.#slot(slotIndex);
    if (kvLength - rows > slot.length) {
      const problem = `slot ${slotIndex} holds ${slot.length} positions; a step continues at ${kvLength - rows}`;
      throw new DeviceError('DEVICE_BATCH_INVALID', problem);
    }
    for (const [index, layer] of slot.layers.entries()) {
      const { keyElements, valueElements } = definite(this.#spec.layers[index], 'KV layer');
      layer.keys = grown(layer.keys, kvLength, keyElements);
      layer.values = grown(layer.values, kvLength, valueElements);
    }
    slot.length = kvLength;
  }

  rows(slot: number, layer: number): KvRows {
    return definite(this.#slot(slot).layers[layer], `KV layer ${layer}`);
  }

  /** Stores `source` [rows, elements] from position `position` on. */
  write(into: Float32Array, position: number, source: Float32Array, elements: number): void {
    const rounded = this.#halves ? source.map((value) => f16ToF32(f32ToF16(value))) : source;
    into.set(rounded, position * elements);
  }

  copy(from: number, to: number, length: number): void {
    const source = this.#slot(from);
    if (length > source.length) {
      throw new DeviceError(
        'DEVICE_BATCH_INVALID',
        `slot ${from} holds ${source.length} positions, not ${length}`,
      );
    }
    if (from === to) return;
    this.release(to);
    this.extend(to, length, length);
    for (const [index, { keyElements, valueElements }] of this.#spec.layers.entries()) {
      const rows = this.rows(to, index);
      const sourceRows = this.rows(from, index);
      rows.keys.set(sourceRows.keys.subarray(0, length * keyElements));
      rows.values.set(sourceRows.values.subarray(0, length * valueElements));
    }
  }

  release(index: number): void {
    const slot = this.#slot(index);
    // Whoever still holds these arrays reads poison.
    for (const { keys, values } of slot.layers) {
      keys.fill(Number.NaN);
      values.fill(Number.NaN);
    }
    slot.length = 0;
    slot.layers = emptyLayers(this.#spec);
  }

  #slot(index: number): Slot {
    const slot = this.#slots[index];
    if (slot) return slot;
    throw new DeviceError('DEVICE_BATCH_INVALID', `slot ${index} of ${this.#slots.length}`);
  }
}

function emptyLayers(spec: KvSpec): KvRows[] {
  return spec.layers.map(() => ({ keys: new Float32Array(0), values: new Float32Array(0) }));
}

function grown(array: Float32Array, positions: number, elements: number): Float32Array {
  if (array.length >= positions * elements) return array;
  const capacity = Math.max(positionsMin, 2 ** Math.ceil(Math.log2(positions)));
  const larger = new Float32Array(capacity * elements).fill(Number.NaN);
  larger.set(array);
  return larger;
}
