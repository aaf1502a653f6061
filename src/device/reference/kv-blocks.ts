import { e4m3Values, f32ToE4m3 } from '../../base/e4m3.ts';
import { definite } from '../../base/errors.ts';
import { f16ToF32, f32ToF16 } from '../../base/half.ts';
import type { KvSpec } from '../../graph/graph.ts';
import type { KvDtype, KvPoolSize } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { type KvOperations, kvOperation } from '../step.ts';

/** Blocks grow by doubling from here: a slot for a long context starts small. */
const positionsMin = 16;

/** Cached rows of consecutive positions in one layer. */
export interface KvRows {
  /** [positions, keyElements] and [positions, valueElements]. */
  keys: Float32Array;
  values: Float32Array;
}

interface Block {
  /** Positions that hold something. */
  length: number;
  layers: KvRows[];
}

/** What values are once they were stored. */
type Rounding = (values: Float32Array) => Float32Array;

const rounding: Record<KvDtype, Rounding> = {
  f32: (values) => values,
  f16: (values) => values.map((value) => f16ToF32(f32ToF16(value))),
  fp8: (values) => values.map((value) => e4m3Values[f32ToE4m3(value)] as number),
  q8_0: (values) => values.map((value, index) => roundedToScale(value, q8Scale(values, index))),
};

const q8Elements = 32;
const q8Max = 127;

/** The scale of the block that an element is in: what makes its largest value 127. */
function q8Scale(values: Float32Array, index: number): number {
  const start = index - (index % q8Elements);
  let most = 0;
  for (const value of values.subarray(start, start + q8Elements)) most = Math.max(most, Math.abs(value));
  return most / q8Max;
}

/** The scale itself is stored as a half. */
function roundedToScale(value: number, scale: number): number {
  return scale === 0 ? 0 : Math.round(value / scale) * f16ToF32(f32ToF16(scale));
}

/**
 * The KV cache as plain float32 arrays, in blocks of any size. What was never written, or was released, is NaN, so that reading it spoils
 * the logits visibly. With `kvDtype` f16, fp8 (e4m3, without a scale) or q8_0 (8 bits, with a
 * scale for 32 elements) every element is rounded to that on its way in.
 */
export class KvBlocks {
  readonly #spec: KvSpec;
  readonly #size: KvPoolSize;
  readonly #blocks: Block[];
  readonly #hostBlocks: Block[];
  readonly #rounded: Rounding;

  /** @throws DeviceError for q8_0 and rows that are no whole number of its blocks */
  constructor(spec: KvSpec, size: KvPoolSize, kvDtype: KvDtype) {
    this.#spec = spec;
    this.#size = size;
    this.#rounded = rounding[kvDtype];
    const widths = spec.layers.flatMap(({ keyElements, valueElements }) => [keyElements, valueElements]);
    if (kvDtype === 'q8_0' && widths.some((width) => width % q8Elements !== 0)) {
      const problem = `a KV cache of q8_0 has blocks of ${q8Elements} elements, which do not divide this model's ${widths[0]}`;
      throw new DeviceError('DEVICE_DTYPE_UNSUPPORTED', `${problem}: give --kv-dtype f16`);
    }
    this.#blocks = Array.from({ length: size.blocks }, () => emptyBlock(spec));
    this.#hostBlocks = Array.from({ length: size.hostBlocks }, () => emptyBlock(spec));
  }

  /** Does a step's operations in order. */
  operate({ count, kinds, from, to, positions }: KvOperations): void {
    for (let index = 0; index < count; index++) {
      const source = from[index] as number;
      const target = to[index] as number;
      const kind = kinds[index];
      if (kind === kvOperation.release) this.#release(source);
      else if (kind === kvOperation.copy) this.#copy(source, target, positions[index] as number);
      else if (kind === kvOperation.toHost) this.#hostBlocks[target] = cloned(this.#block(source));
      else this.#blocks[target] = cloned(definite(this.#hostBlocks[source], `host block ${source}`));
    }
  }

  /**
   * Makes a sequence's blocks hold `kvLength` positions, of which the last `rows` are about to be written.
   * @throws DeviceError where positions before them hold nothing
   */
  extend(blocks: Int32Array, kvLength: number, rows: number): void {
    const { blockPositions } = this.#size;
    const start = kvLength - rows;
    for (let first = 0; first < kvLength; first += blockPositions) {
      const number = blocks[first / blockPositions] ?? -1;
      const block = this.#block(number);
      const needed = Math.min(blockPositions, start - first);
      if (block.length < needed) {
        const problem = `block ${number} holds ${block.length} positions; a step continues at ${needed}`;
        throw new DeviceError('DEVICE_BATCH_INVALID', problem);
      }
      const length = Math.min(blockPositions, kvLength - first);
      if (first + length <= start) continue;
      for (const [index, layer] of block.layers.entries()) {
        const { keyElements, valueElements } = definite(this.#spec.layers[index], 'KV layer');
        layer.keys = grown(layer.keys, length, keyElements);
        layer.values = grown(layer.values, length, valueElements);
      }
      block.length = length;
    }
  }

  /** Stores rows [positions, elements] of one layer from position `start` of a sequence on. */
  write(blocks: Int32Array, layer: number, start: number, keys: Float32Array, values: Float32Array): void {
    const { blockPositions } = this.#size;
    const { keyElements, valueElements } = definite(this.#spec.layers[layer], 'KV layer');
    const end = start + keys.length / keyElements;
    for (let from = start; from < end; ) {
      const index = Math.floor(from / blockPositions);
      const to = Math.min(end, (index + 1) * blockPositions);
      const rows = definite(this.#block(blocks[index] ?? -1).layers[layer], `KV layer ${layer}`);
      const place = from - index * blockPositions;
      const part = (source: Float32Array, elements: number) =>
        this.#rounded(source.subarray((from - start) * elements, (to - start) * elements));
      rows.keys.set(part(keys, keyElements), place * keyElements);
      rows.values.set(part(values, valueElements), place * valueElements);
      from = to;
    }
  }

  /** Positions [0, kvLength) of a sequence in one layer, side by side. */
  gather(blocks: Int32Array, layer: number, kvLength: number): KvRows {
    const { blockPositions } = this.#size;
    const { keyElements, valueElements } = definite(this.#spec.layers[layer], 'KV layer');
    if (kvLength <= blockPositions) {
      return definite(this.#block(blocks[0] ?? -1).layers[layer], `KV layer ${layer}`);
    }
    const keys = new Float32Array(kvLength * keyElements);
    const values = new Float32Array(kvLength * valueElements);
    for (let first = 0; first < kvLength; first += blockPositions) {
      const block = this.#block(blocks[first / blockPositions] ?? -1);
      const rows = definite(block.layers[layer], `KV layer ${layer}`);
      const length = Math.min(blockPositions, kvLength - first);
      keys.set(rows.keys.subarray(0, length * keyElements), first * keyElements);
      values.set(rows.values.subarray(0, length * valueElements), first * valueElements);
    }
    return { keys, values };
  }

  #copy(from: number, to: number, length: number): void {
    const source = this.#block(from);
    if (length > source.length) {
      const problem = `block ${from} holds ${source.length} positions, not ${length}`;
      throw new DeviceError('DEVICE_BATCH_INVALID', problem);
    }
    this.#release(to);
    const target = this.#block(to);
    target.length = length;
    for (const [index, { keyElements, valueElements }] of this.#spec.layers.entries()) {
      const rows = definite(source.layers[index], `KV layer ${index}`);
      const layer = definite(target.layers[index], `KV layer ${index}`);
      layer.keys = rows.keys.slice(0, length * keyElements);
      layer.values = rows.values.slice(0, length * valueElements);
    }
  }

  #release(number: number): void {
    const block = this.#block(number);
    // Whoever still holds these arrays reads poison.
    for (const { keys, values } of block.layers) {
      keys.fill(Number.NaN);
      values.fill(Number.NaN);
    }
    this.#blocks[number] = emptyBlock(this.#spec);
  }

  #block(number: number): Block {
    const block = this.#blocks[number];
    if (block) return block;
    throw new DeviceError('DEVICE_BATCH_INVALID', `block ${number} of ${this.#blocks.length}`);
  }
}

function emptyBlock(spec: KvSpec): Block {
  return {
    length: 0,
    layers: spec.layers.map(() => ({ keys: new Float32Array(0), values: new Float32Array(0) })),
  };
}

function cloned({ length, layers }: Block): Block {
  return {
    length,
    layers: layers.map(({ keys, values }) => ({ keys: keys.slice(), values: values.slice() })),
  };
}

function grown(array: Float32Array, positions: number, elements: number): Float32Array {
  if (array.length >= positions * elements) return array;
  const capacity = Math.max(positionsMin, 2 ** Math.ceil(Math.log2(positions)));
  const larger = new Float32Array(capacity * elements).fill(Number.NaN);
  larger.set(array);
  return larger;
}
