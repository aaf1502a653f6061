import type { DType } from '../graph/dtype.ts';
import type { BatchShape, Graph, KvSpec } from '../graph/graph.ts';

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
  /** The `decode` network for a batch shape: inputs `tokens`, `positions`, `outputRows`; output `logits` [R, vocabulary]. */
  record(shape: BatchShape): Graph;
  /** By the name that the graph's `weight` nodes carry. */
  weights: ReadonlyMap<string, WeightTensor>;
  kv: KvSpec;
  vocabularySize: number;
  /** Positions of one sequence. */
  contextLength: number;
}

/** How much room a loaded model needs. */
/** What a model may use of its device. */
export interface DeviceModelOptions {
  /** Sequences that may hold a KV slot at once. */
  slots: number;
  /** Rows in one step. */
  batchTokensMax: number;
  /** Type of the KV cache's elements. */
  kvDtype: 'f16' | 'f32';
  /** CPU threads; devices that use none ignore it. */
  threads: number;
}

/** One sequence's part of a step: `rows` consecutive batch rows that extend `slot`'s KV to `kvLength` positions. */
export interface Segment {
  slot: number;
  rows: number;
  /** Positions in the slot's KV after this step; the segment's rows are the last of them. */
  kvLength: number;
}

/** One step's work. Everything is checked before it reaches a device: a bad token id aborts inside ggml. */
export interface StepBatch {
  /** [T] token ids. */
  tokens: Int32Array;
  /** [T] positions, consecutive within a segment. */
  positions: Int32Array;
  /** Cover the rows 0..T-1 in order. */
  segments: readonly Segment[];
  /** [R] rows whose logits are wanted, ascending; R may be 0 (a prefill chunk that is not the last). */
  outputRows: Int32Array;
  /** What the sampler needs: `greedy` when every output row takes the argmax and nobody asked for log-probabilities. */
  want: 'logits' | 'greedy';
  /** [R], each positive: asks for {@link RowProbabilities} beside the logits. Only for `want: 'logits'`; a device may ignore it. */
  temperatures?: Float32Array;
}

/** Tokens of one block of {@link RowProbabilities}: with 64, ggml's dot product sums one in a few vector instructions. */
export const probabilityBlock = 64;

/** Each output row's softmax(logits / its temperature). A row whose logits hold NaN or infinity may be anything but sums to no number. */
export interface RowProbabilities {
  /** [R, vocabulary]. */
  values: Float32Array;
  /** [R, floor(vocabulary / {@link probabilityBlock})]: what each whole block of tokens sums to, so that few need a look. */
  blockSums: Float32Array;
}

/** A step's result for the R output rows. Views stay valid until the next `run` on the same model. */
export type StepOutput =
  /** The device picked each row's token itself. Only for `want: 'greedy'`. */
  | { kind: 'tokens'; tokens: Int32Array }
  /** [R, vocabulary] float32. */
  | { kind: 'logits'; logits: Float32Array; probabilities?: RowProbabilities }
  /** The `perRow` likeliest tokens of each row, unordered: [R, perRow] ids and logits. The rest counts as impossible. */
  | { kind: 'candidates'; perRow: number; ids: Int32Array; logits: Float32Array };

/** What {@link DeviceModel.run} gives back. */
/** What a step gave, and how long it computed. */
export interface StepResult {
  output: StepOutput;
  /** Time inside the device's compute call, for the step breakdown. */
  computeNs: number;
}

/** A model loaded on a device. Not re-entrant: one step at a time. */
export interface DeviceModel {
  /** Bytes that one position takes in the KV cache, all layers together. */
  readonly kvBytesPerPosition: number;
  /** Bytes of weights, as the device holds them. */
  readonly weightBytes: number;
  /** Runs one step. A device whose compute is asynchronous returns a promise; CPU devices block. */
  run(batch: StepBatch): StepResult | Promise<StepResult>;
  /** Copies positions [0, length) of `from` to `to` (prefix reuse). */
  copySlot(from: number, to: number, length: number): void;
  /** Gives a slot's memory back to the system. Its contents are undefined afterwards. */
  releaseSlot(slot: number): void;
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

/** Something that runs recorded graphs. Opened once; may load several models. */
/** Something that runs graphs: a registry row, opened. */
export interface Device {
  readonly name: string;
  describe(): DeviceDescription;
  /** @throws DeviceError naming an op or type that the device lacks */
  load(source: DeviceModelSource, options: DeviceModelOptions): DeviceModel | Promise<DeviceModel>;
  close(): void;
}
