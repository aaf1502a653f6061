import { assert, definite } from '../../base/errors.ts';
import { dtypes } from '../../graph/dtype.ts';
import type { BatchShape, Graph, KvSpec } from '../../graph/graph.ts';
import { checkBatch } from '../check-batch.ts';
import type { DeviceModel, DeviceModelOptions, DeviceModelSource, StepBatch, StepResult } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { Compute } from './compute.ts';
import { Executable, type GraphEnd } from './executable.ts';
import { type FusedGraph, fuse } from './fusion.ts';
import type { GraphAllocator } from './handles.ts';
import { KvArena, type KvHeads, type KvRowClass } from './kv-arena.ts';
import type { GgmlLibrary } from './library.ts';
import { temperatureLanes } from './lower-probabilities.ts';
import type { ModelParts } from './lowering.ts';
import { ModelWeights } from './weights.ts';
import { Workspace } from './workspace.ts';

/** Recorded graphs kept for reuse, least recently used dropped first: one for every mix of segment lengths. */
export const executablesMax = 64;

/** Row numbers are i64, written as two words. */
const wordsPerUnit = 2 ** 32;

/** Where a step's time went, in nanoseconds, for `bench/device-step.ts`. */
export interface StepTimes {
  /** Recording and laying out, when the shape was new. */
  recordNs: number;
  /** Checking, writing inputs, pointing attention at its slots. */
  inputsNs: number;
  computeNs: number;
  /** Viewing tokens or logits. */
  outputNs: number;
}

/** Settings of the device that its models share. */
export interface GgmlModelSettings {
  /** How long workers spin for the next step before they sleep: 0 (not at all) to 100. */
  poll: number;
  /** Whether to store weights in the order of faster kernels where there are some. */
  repack: boolean;
}

/** A model on ggml's CPU backend. */
export class GgmlModel implements DeviceModel {
  readonly weightBytes: number;
  readonly kvBytesPerPosition: number;
  readonly times: StepTimes = { recordNs: 0, inputsNs: 0, computeNs: 0, outputNs: 0 };
  readonly parts: ModelParts;
  readonly #source: DeviceModelSource;
  readonly #options: DeviceModelOptions;
  readonly #allocator: GraphAllocator;
  readonly #compute: Compute;
  readonly #executables = new Map<string, Executable>();
  /** What was opened, in order: closed in reverse, also when loading fails half-way. */
  readonly #closers: (() => void)[] = [];
  #allocatedBytes = 0;
  #open = true;

  constructor(
    library: GgmlLibrary,
    source: DeviceModelSource,
    options: DeviceModelOptions,
    settings: GgmlModelSettings,
  ) {
    this.#source = source;
    this.#options = options;
    try {
      this.parts = this.#loadParts(library, settings);
      const { ggml } = library;
      this.#allocator = this.#opened(ggml.ggml_gallocr_new(library.cpuBufferType), ggml.ggml_gallocr_free);
      this.#compute = this.#opened(new Compute(library, options.threads, settings.poll), (compute) =>
        compute.close(),
      );
      this.weightBytes = this.parts.weights.bytes;
      this.kvBytesPerPosition = this.parts.kv.bytesPerPosition;
      this.#reserve();
    } catch (thrown) {
      this.close();
      throw thrown;
    }
  }

  #opened<T>(value: T, close: (value: T) => void): T {
    this.#closers.push(() => close(value));
    return value;
  }

  #loadParts(library: GgmlLibrary, settings: GgmlModelSettings): ModelParts {
    const source = this.#source;
    const { slots, batchTokensMax, kvDtype } = this.#options;
    const close = (part: { close(): void }) => part.close();
    const weights = this.#opened(new ModelWeights(library, source.weights, settings.repack), close);
    const probe = source.record({ tokens: 1, segmentRows: [1], outputRows: 1 });
    const fused = fuse(probe, (names) => weights.canStack(names));
    weights.place(fused.graph, fused.stacked);
    const { contextLength, vocabularySize } = source;
    const kv = this.#opened(
      new KvArena(library, source.kv, headsOf(fused.graph, source.kv), {
        slots,
        contextLength,
        dtype: kvDtype,
      }),
      close,
    );
    const windows = [...new Set(source.kv.layers.map((layer) => layer.window))];
    const sizes = {
      batchTokensMax,
      contextLength,
      rowClasses: kv.rowClasses,
      windowClasses: windows.length,
      temperatureLanes: temperatureLanes(vocabularySize),
      extendedWidths: weights.extendedWidths,
    };
    const workspace = this.#opened(new Workspace(library, sizes), close);
    return { library, weights, workspace, kv, windows, kvTypeId: dtypes[kvDtype].ggmlId, vocabularySize };
  }

  /** Lays out the largest step once, so that the shared activation buffer need not grow (which would drop every recorded graph). */
  #reserve(): void {
    const tokens = Math.min(this.#options.batchTokensMax, this.#source.contextLength);
    const outputRows = Math.min(tokens, this.#options.slots);
    this.#executable({ tokens, segmentRows: [tokens], outputRows }, 'probabilities');
  }

  /** Graphs kept for reuse. */
  get recordedGraphs(): number {
    return this.#executables.size;
  }

  run(batch: StepBatch): StepResult {
    assert(this.#open, 'an open model');
    const started = process.hrtime.bigint();
    checkBatch(batch, {
      vocabularySize: this.#source.vocabularySize,
      contextLength: this.#source.contextLength,
      slots: this.#options.slots,
      batchTokensMax: this.#options.batchTokensMax,
    });
    const segmentRows = batch.segments.map((segment) => segment.rows);
    const shape = { tokens: batch.tokens.length, segmentRows, outputRows: batch.outputRows.length };
    const executable = this.#executable(shape, endOf(batch));
    const recorded = process.hrtime.bigint();
    this.#writeInputs(batch);
    executable.bind(batch);
    const bound = process.hrtime.bigint();
    this.#compute.run(executable.target);
    const computed = process.hrtime.bigint();
    const output = this.#output(batch, executable);
    this.times.recordNs = Number(recorded - started);
    this.times.inputsNs = Number(bound - recorded);
    this.times.computeNs = Number(computed - bound);
    this.times.outputNs = Number(process.hrtime.bigint() - computed);
    return { output, computeNs: this.times.computeNs };
  }

  #executable(shape: BatchShape, end: GraphEnd): Executable {
    const key = `${shape.segmentRows.join()}|${shape.outputRows}|${end}`;
    const known = this.#executables.get(key);
    if (known) {
      this.#executables.delete(key);
      this.#executables.set(key, known);
      return known;
    }
    const fused: FusedGraph = fuse(this.#source.record(shape), (names) => this.parts.weights.canStack(names));
    const executable = this.#layOut(() => new Executable(this.parts, fused, shape, this.#allocator, end));
    this.#noteAllocation();
    this.#executables.set(key, executable);
    for (const [oldest, old] of this.#executables) {
      if (this.#executables.size <= executablesMax) break;
      this.#executables.delete(oldest);
      old.close();
    }
    return executable;
  }

  /** The allocator frees its buffer before it asks for a larger one: after a refusal no graph may run in the old one again. */
  #layOut(create: () => Executable): Executable {
    try {
      return create();
    } catch (thrown) {
      this.#dropExecutables();
      this.#allocatedBytes = 0;
      throw thrown;
    }
  }

  /** A grown activation buffer has moved: graphs laid out in the old one are void. */
  #noteAllocation(): void {
    const bytes = this.parts.library.ggml.ggml_gallocr_get_buffer_size(this.#allocator, 0);
    if (bytes === this.#allocatedBytes) return;
    this.#allocatedBytes = bytes;
    this.#dropExecutables();
  }

  #dropExecutables(): void {
    for (const executable of this.#executables.values()) executable.close();
    this.#executables.clear();
  }

  #writeInputs(batch: StepBatch): void {
    const { workspace, kv } = this.parts;
    workspace.tokens.set(batch.tokens);
    workspace.positions.set(batch.positions);
    workspace.outputRows.set(batch.outputRows);
    kv.rowClasses.forEach((rowClass, index) => {
      this.#writeIndices(batch, rowClass, definite(workspace.rowIndices[index], 'row indices'));
    });
    const { temperatureLanes: lanes, inverseTemperatures } = workspace;
    batch.temperatures?.forEach((temperature, row) => {
      inverseTemperatures.fill(1 / temperature, row * lanes, (row + 1) * lanes);
    });
  }

  /** Numbers the KV rows that the step writes, token by token, head by head. */
  #writeIndices(batch: StepBatch, { rowBytes, kvHeads }: KvRowClass, indices: Uint32Array): void {
    const { contextLength, slotBytes } = this.parts.kv;
    const slotRows = slotBytes / rowBytes;
    let at = 0;
    for (const segment of batch.segments) {
      const first = segment.slot * slotRows + segment.kvLength - segment.rows;
      for (let i = 0; i < segment.rows; i++) {
        for (let head = 0; head < kvHeads; head++) {
          const row = first + i + head * contextLength;
          indices[at++] = row % wordsPerUnit;
          indices[at++] = row / wordsPerUnit;
        }
      }
    }
  }

  #output(batch: StepBatch, executable: Executable): StepResult['output'] {
    const rows = batch.outputRows.length;
    if (batch.want === 'greedy') {
      return { kind: 'tokens', tokens: rows === 0 ? new Int32Array(0) : executable.tokens(rows) };
    }
    if (rows === 0) return { kind: 'logits', logits: new Float32Array(0) };
    const { vocabularySize } = this.#source;
    const logits = executable.logits(rows, vocabularySize);
    if (!batch.temperatures) return { kind: 'logits', logits };
    return { kind: 'logits', logits, probabilities: executable.probabilities(rows, vocabularySize) };
  }

  copySlot(from: number, to: number, length: number): void {
    const { slots } = this.#options;
    const inside = (slot: number) => Number.isInteger(slot) && slot >= 0 && slot < slots;
    const fits = Number.isInteger(length) && length >= 0 && length <= this.#source.contextLength;
    if (!inside(from) || !inside(to) || from === to || !fits) {
      throw new DeviceError(
        'DEVICE_BATCH_INVALID',
        `cannot copy ${length} positions of slot ${from} to ${to} of ${slots}`,
      );
    }
    this.parts.kv.copySlot(from, to, length);
  }

  releaseSlot(slot: number): void {
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.#options.slots) {
      throw new DeviceError('DEVICE_BATCH_INVALID', `cannot release slot ${slot} of ${this.#options.slots}`);
    }
    this.parts.kv.releaseSlot(slot);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#dropExecutables();
    for (const close of this.#closers.reverse()) close();
  }
}

function endOf(batch: StepBatch): GraphEnd {
  if (batch.want === 'greedy') return 'greedy';
  return batch.temperatures ? 'probabilities' : 'logits';
}

/** The heads of each KV layer, from the attention op that uses it. */
function headsOf(graph: Graph, spec: KvSpec): KvHeads[] {
  return spec.layers.map((layer, index) => {
    const node = graph.nodes.find((other) => other.op === 'attention' && other.attributes.layer === index);
    assert(node?.op === 'attention', `KV layer ${index} has an attention op`);
    const { kvHeads, headDimension, valueHeadDimension } = node.attributes;
    const fits =
      layer.keyElements === kvHeads * headDimension && layer.valueElements === kvHeads * valueHeadDimension;
    assert(fits, `KV layer ${index} keeps what its attention op reads`);
    return { kvHeads, headDimension, valueHeadDimension };
  });
}
