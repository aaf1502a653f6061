import type { Graph } from '../graph/graph.ts';
import { DeviceError } from './errors.ts';

/**
 * The low-rank change of one logical linear (a part of an op `linear`, by its name): `y += B (A x)`. Devices take it as float32; the adapter's
 * scale is in B.
 */
export interface AdapterPart {
  /** As `linear.parts` names it: 'layers.0.attention.q'. */
  name: string;
  rank: number;
  inputs: number;
  outputs: number;
  /** [rank, inputs]. */
  a: Float32Array;
  /** [outputs, rank], in the order of the engine's rows. */
  b: Float32Array;
}

/** A LoRA adapter as devices load it: some of a model's linears, each with a rank of its own. */
export interface AdapterTensors {
  /** SHA-256 over the parts: what has the same digest computes the same. */
  digest: string;
  /** The largest rank of its parts. */
  rank: number;
  parts: readonly AdapterPart[];
  byteLength: number;
}

/** How much room a model gets for adapters. */
export interface AdapterRoom {
  /** Adapters on the device at a time, and so in one batch. */
  slots: number;
  /** The largest rank that an adapter may have. */
  rankMax: number;
  /** Ranks of all adapters on the device together, each rounded up to a multiple of {@link adapterRankUnit}. */
  rankRows: number;
}

/** Ranks count in these units, so that devices may align their matrices. */
export const adapterRankUnit = 8;

/** What an adapter takes of {@link AdapterRoom.rankRows}. */
export function adapterRankRows({ rank }: Pick<AdapterTensors, 'rank'>): number {
  return Math.ceil(rank / adapterRankUnit) * adapterRankUnit;
}

/**
 * A loaded model's places for adapters; a step's segments name them (`SegmentTable.adapter`). Changes happen in order with launches: steps that
 * were launched before see what was there before, on devices that compute later as well.
 */
export interface AdapterSlots extends AdapterRoom {
  /**
   * Puts an adapter into a slot, which holds none.
   * @throws DeviceError `DEVICE_ADAPTER_INVALID` for parts that the model lacks or whose shapes it does not have, or where the room is used up
   */
  load(slot: number, tensors: AdapterTensors): void;
  /** Empties a slot. */
  unload(slot: number): void;
}

/** A change of one slot; without tensors it is emptied. */
export interface AdapterChange {
  slot: number;
  tensors?: AdapterTensors;
}

/** Inputs and outputs of a model's logical linears, by name. */
export type LinearShapes = ReadonlyMap<string, { inputs: number; outputs: number }>;

/** The logical linears of a recorded graph. */
export function linearShapes(graph: Graph): LinearShapes {
  const shapes = new Map<string, { inputs: number; outputs: number }>();
  for (const node of graph.nodes) {
    if (node.op !== 'linear') continue;
    const inputs = graph.nodes[node.inputs[0] ?? -1]?.shape.at(-1) ?? 0;
    for (const { name, rows } of node.attributes.parts) shapes.set(name, { inputs, outputs: rows });
  }
  return shapes;
}

/** Bytes that one rank of an adapter over all of a model's linears takes, as float32. */
export function bytesPerRank(linears: LinearShapes): number {
  let elements = 0;
  for (const { inputs, outputs } of linears.values()) elements += inputs + outputs;
  return elements * Float32Array.BYTES_PER_ELEMENT;
}

/** The book-keeping of {@link AdapterSlots} that devices share: what is where, and what is to be done before the next launch. */
export class AdapterTable implements AdapterSlots {
  readonly slots: number;
  readonly rankMax: number;
  readonly rankRows: number;
  readonly #linears: LinearShapes | undefined;
  readonly #loaded: (AdapterTensors | undefined)[];
  #changes: AdapterChange[] = [];

  /** @param linears the model's; absent for a model that has no network */
  constructor({ slots, rankMax, rankRows }: AdapterRoom, linears?: LinearShapes) {
    this.slots = slots;
    this.rankMax = rankMax;
    this.rankRows = rankRows;
    this.#linears = linears;
    this.#loaded = Array.from({ length: slots }, () => undefined);
  }

  load(slot: number, tensors: AdapterTensors): void {
    const used = this.#loaded.reduce((sum, one) => sum + (one ? adapterRankRows(one) : 0), 0);
    const own = adapterRankRows(tensors);
    if (!(slot in this.#loaded) || this.#loaded[slot]) {
      throw adapterError(`slot ${slot} of ${this.slots} is not free`);
    }
    if (tensors.rank > this.rankMax || used + own > this.rankRows) {
      throw adapterError(
        `a rank of ${tensors.rank} beside ${used} of ${this.rankRows} rows (at most ${this.rankMax})`,
      );
    }
    for (const part of tensors.parts) this.#check(part);
    this.#loaded[slot] = tensors;
    this.#changes.push({ slot, tensors });
  }

  #check({ name, rank, inputs, outputs, a, b }: AdapterPart): void {
    const shape = this.#linears?.get(name);
    if (this.#linears && !shape) throw adapterError(`the model has no linear '${name}'`);
    const isModels = !shape || (shape.inputs === inputs && shape.outputs === outputs);
    if (isModels && a.length === rank * inputs && b.length === outputs * rank) return;
    const expected = shape ? `[${shape.outputs}, ${shape.inputs}]` : 'as said';
    throw adapterError(`'${name}' is ${expected}, not [${outputs}, ${inputs}] of rank ${rank}`);
  }

  unload(slot: number): void {
    if (!this.#loaded[slot]) return;
    this.#loaded[slot] = undefined;
    this.#changes.push({ slot });
  }

  /** Whether rows may name the slot from the next launch on. */
  has(slot: number): boolean {
    return this.#loaded[slot] !== undefined;
  }

  /** What changed since the launch before; the caller does it before the rows of the one that it begins. */
  takeChanges(): readonly AdapterChange[] {
    if (this.#changes.length === 0) return noChanges;
    const taken = this.#changes;
    this.#changes = [];
    return taken;
  }
}

const noChanges: readonly AdapterChange[] = [];

/** An adapter that a device cannot take. */
export function adapterError(problem: string): DeviceError {
  return new DeviceError('DEVICE_ADAPTER_INVALID', `the adapter cannot be put on the device: ${problem}`);
}
