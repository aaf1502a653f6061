import type { DType } from '../graph/dtype.ts';
import type { BatchShape, Graph, KvSpec } from '../graph/graph.ts';
import type { AdapterRoom, AdapterSlots } from './adapters.ts';
import type { Collective } from './collective/collective.ts';
import type { StepBatch, StepResult } from './step.ts';

/** A tensor as it lies in a file; devices map or read it by position. Structurally equal to the checkpoint layer's. */
export interface WeightTensor {
  name: string;
  dtype: DType;
  /** Row-major, outermost first. */
  shape: readonly number[];
  path: string;
  /** Absolute byte offset in the file. */
  offset: number;
  byteLength: number;
}

/** What a device is given to run: how to record the network, and where its weights lie. Devices know no architectures. */
export interface DeviceModelSource {
  /**
   * The `decode` network for a batch shape: inputs `tokens`, `positions`, `outputRows`; output `logits` [R, vocabulary]. With `logitRows` in the
   * shape: outputs `hidden` [R, width], behind the last norm, and, unless it is 0, `logits` of the output rows that the input `logitRows` [L]
   * picks (no input where it is all of them). A pipeline stage takes `hidden` [T, width] unless it is the first, and gives `hidden` unless it is the
   * last.
   */
  record(shape: BatchShape): Graph;
  /** By the name that the graph's `weight` nodes carry. */
  weights: ReadonlyMap<string, WeightTensor>;
  kv: KvSpec;
  /** A pipeline stage that is not the last: its steps give `hidden` and choose no tokens, as its recorded network says, too. */
  handsOn?: boolean;
  vocabularySize: number;
  /** Columns of the final hidden states; 0 or absent where the network gives none. */
  hiddenWidth?: number;
  /** Positions of one sequence. */
  contextLength: number;
}

/** Types of the KV cache's elements; each device has some of them. q8_0 has a scale for every 32 elements of a head. */
export const kvDtypes = ['f16', 'f32', 'fp8', 'q8_0'] as const;
export type KvDtype = (typeof kvDtypes)[number];

/** How a model is put on its device. */
export interface DeviceModelOptions {
  /** Rows in one step. */
  batchTokensMax: number;
  kvDtype: KvDtype;
  /** CPU threads; devices that use none ignore it. */
  threads: number;
  /** The other ranks, of a model that is divided among a tensor-parallel group. */
  collective?: Collective;
  /** Room for LoRA adapters. Absent: none are served. */
  adapters?: AdapterRoom;
}

/** How the KV cache is cut into blocks. */
export interface KvPoolSize {
  /** Blocks of the pool. A layout of slots has one a sequence. */
  blocks: number;
  /** Positions of a block; `contextLength` makes each block a slot for one whole sequence. */
  blockPositions: number;
  /** Blocks of the same size in host memory, for `toHost` and `fromHost`; 0 for none. */
  hostBlocks: number;
}

/** The KV cache of a loaded model. */
export interface KvPoolFacts extends KvPoolSize {
  /** Bytes that one position takes, all layers together. */
  bytesPerPosition: number;
}

/** What a device can do about a model's KV cache, known before the cache is sized. */
export interface KvAbility {
  /** Bytes that one position takes, all layers together. */
  bytesPerPosition: number;
  /** Whether the device wants whole sequences in one place (slots), small blocks, or takes either. */
  layout: 'slots' | 'blocks' | 'either';
  /** Positions of a block unless told otherwise; what slots have is `contextLength`. */
  blockPositions: number;
}

/** What a device has left. */
export interface DeviceMemory {
  freeBytes: number;
  /** What part of it a KV cache takes unless told otherwise. */
  kvShareDefault: number;
  /** Whether each rank of a group on one host has such memory of its own; absent: they share it. */
  isEachRanksOwn?: boolean;
}

/** A model's weights on a device, before its KV cache: on a GPU that takes what the weights leave. */
export interface LoadedWeights {
  /** Bytes of weights, as the device holds them. */
  readonly weightBytes: number;
  readonly kv: KvAbility;
  /** What is free for the KV cache now. */
  memory(): DeviceMemory;
  /**
   * Makes the KV cache, once.
   * @throws DeviceError `DEVICE_OUT_OF_MEMORY`, or `DEVICE_OPTION_INVALID` for a block size that it cannot have
   */
  allocateKv(size: KvPoolSize): DeviceModel | Promise<DeviceModel>;
  close(): void;
}

/** A model loaded on a device. Steps run in the order of their launches. */
export interface DeviceModel {
  readonly weightBytes: number;
  readonly kv: KvPoolFacts;
  /** Steps that may be launched before the first of them is collected. */
  readonly inFlightStepsMax: number;
  /** Stages that a step passes, each working on another step; absent for one. Steps of different sequences keep all of them busy. */
  readonly stages?: number;
  /** Bits of `samplingFeature`: what it may be asked to choose by. */
  readonly samplingFeatures: number;
  /** Columns of the final hidden states that rows may ask for (`want.hidden`); 0 or absent where the device gives none. */
  readonly hiddenWidth?: number;
  /** Its places for LoRA adapters; absent where none were asked for, or the device has no such thing. */
  readonly adapters?: AdapterSlots;
  /**
   * Starts a step. The batch's arrays are read before it returns, unless the model waits for other ranks through an asynchronous collective:
   * whoever gave it one gives it batches to keep.
   * @throws DeviceError other than `DEVICE_FAILED`: the KV operations are done, no row ran, and the device goes on
   */
  launch(batch: StepBatch): void;
  /** The oldest launched step's result. A device whose compute is asynchronous returns a promise; CPU devices have it at once. */
  collect(): StepResult | Promise<StepResult>;
  close(): void;
}

/** What a device says about itself, for `nereid doctor` and logs. */
export interface DeviceDescription {
  name: string;
  /** Human-readable: 'AMD EPYC, zen4 kernels'. */
  hardware: string;
  memoryBytes: number;
  details: Record<string, string>;
}

/** Something that runs graphs: a registry row, opened. It may load several models. */
export interface Device {
  readonly name: string;
  describe(): DeviceDescription;
  /** @throws DeviceError naming an op or type that the device lacks */
  load(source: DeviceModelSource, options: DeviceModelOptions): LoadedWeights | Promise<LoadedWeights>;
  close(): void;
}
