import { systemClock } from '../../base/clock.ts';
import { definite } from '../../base/errors.ts';
import type { BatchShape, Graph } from '../../graph/graph.ts';
import { type AdapterTable, linearShapes } from '../adapters.ts';
import { StepChecker } from '../check-step.ts';
import type {
  DeviceMemory,
  DeviceModel,
  DeviceModelOptions,
  DeviceModelSource,
  KvAbility,
  KvPoolFacts,
  KvPoolSize,
  LoadedWeights,
} from '../device.ts';
import { DeviceError } from '../errors.ts';
import { rowEnds } from '../row-ends.ts';
import {
  hostChooses,
  type StepBatch,
  type StepOutput,
  type StepResult,
  samplingFeature,
  want,
} from '../step.ts';
import { AdapterPool } from './adapter-pool.ts';
import { type DevicePointer, type Handle, handleFrom } from './driver.ts';
import { Executor } from './executor.ts';
import type { Gpu } from './gpu.ts';
import { HostMemory } from './host-memory.ts';
import { KvPool, layerPositionBytes } from './kv-pool.ts';
import { MemoryPool } from './memory-pool.ts';
import type { NcclGroup } from './nccl.ts';
import {
  type PendingLogprobs,
  readLogprobs,
  type SamplingMemory,
  SamplingRoom,
  type SamplingRows,
} from './sampling-rows.ts';
import { decodeBuckets, emptyStep, picksLogits, type StepColumns } from './step-layout.ts';
import type { ActivationType, ElementType } from './views.ts';
import { GpuWeights } from './weights.ts';

/** Positions of a KV block unless told otherwise. */
const blockPositionsDefault = 32;
/** Of what the weights leave free, what the KV cache takes; TensorRT-LLM's default of `kv_cache_free_gpu_mem_fraction`. */
const kvShareDefault = 0.9;
/** Kept back of free memory: captured graphs, modules, and an arena that grows. */
const reservedBytes = 1536 * 1024 * 1024;
/** Entries of all block tables of one step. */
const tableEntriesMax = 4 * 1024 * 1024;
/** One step runs while the next is queued behind it. */
const inFlightStepsMax = 2;

/** How a model's values are stored on the GPU. */
export interface StorageTypes {
  readonly activation: ActivationType;
  /** Whether the matrices of products are e4m3. */
  readonly isFp8: boolean;
  readonly kv: ElementType;
}

/** What a model is loaded with beyond what every device is told. */
export interface CudaModelOptions extends StorageTypes {
  /** Sequences up to which the programs of pure decoding are made before the first step. */
  readonly warmUp: number;
}

/** The type that activations are stored in: that of most of the matrices' elements; bfloat16 where they are quantized. */
export function activationOf(source: DeviceModelSource): ActivationType {
  const elements = new Map<ActivationType, number>();
  for (const { dtype, shape } of source.weights.values()) {
    if (shape.length < 2) continue;
    const type = dtype === 'f32' || dtype === 'f16' ? dtype : 'bf16';
    elements.set(type, (elements.get(type) ?? 0) + shape.reduce((product, size) => product * size, 1));
  }
  const [most] = [...elements].sort((a, b) => b[1] - a[1]);
  return most?.[0] ?? 'f32';
}

/** A model's weights on the GPU. */
export class CudaLoadedWeights implements LoadedWeights {
  readonly kv: KvAbility;
  readonly #gpu: Gpu;
  readonly #source: DeviceModelSource;
  readonly #options: DeviceModelOptions;
  readonly #types: CudaModelOptions;
  readonly #group: NcclGroup | undefined;
  readonly #pool: MemoryPool;
  readonly #weights: GpuWeights;
  readonly #adapters: AdapterPool | undefined;
  readonly #executor: Executor;
  /** Where the KV cache lies, once it does; plans before that only ask how much room they need. */
  #cache: KvPool | undefined;
  #blockPositions = blockPositionsDefault;

  /** @param group the other GPUs, where the model is divided among several */
  constructor(
    gpu: Gpu,
    source: DeviceModelSource,
    options: DeviceModelOptions,
    types: CudaModelOptions,
    group?: NcclGroup,
  ) {
    this.#gpu = gpu;
    this.#source = source;
    this.#options = options;
    this.#types = types;
    this.#group = group;
    this.#pool = new MemoryPool(gpu.driver);
    this.#weights = new GpuWeights(gpu, this.#pool, types.activation, types.isFp8, source.weights);
    const bytesPerPosition = layerPositionBytes(source.kv, types.kv).reduce((sum, bytes) => sum + bytes, 0);
    this.kv = { bytesPerPosition, layout: 'blocks', blockPositions: blockPositionsDefault };
    try {
      this.#adapters = this.#openAdapters();
      this.#executor = this.#openExecutor();
      const { graph, stacked } = this.#executor.fused({ tokens: 1, outputRows: 1 });
      this.#weights.load(graph, stacked);
      this.#executor.reserve();
    } catch (thrown) {
      this.#pool.close();
      throw thrown;
    }
  }

  #openAdapters(): AdapterPool | undefined {
    const { adapters } = this.#options;
    // A model that is divided among GPUs offers none: the runtime refuses them by name.
    if (!adapters || this.#group) return undefined;
    const linears = linearShapes(this.#source.record({ tokens: 1, outputRows: 1 }));
    return new AdapterPool(this.#gpu, this.#pool, this.#types.activation, adapters, linears);
  }

  #openExecutor(): Executor {
    const { batchTokensMax } = this.#options;
    const { contextLength, vocabularySize } = this.#source;
    const weights = this;
    const cache = {
      kvLayer: (layer: number) => weights.#cache?.layer(layer) ?? 1,
      get blockPositions() {
        return weights.#blockPositions;
      },
    };
    const record = (shape: BatchShape): Graph => this.#source.record(shape);
    const adapters = this.#adapters;
    return new Executor(
      this.#gpu,
      this.#pool,
      this.#weights,
      this.#types,
      this.#group,
      cache,
      adapters,
      record,
      {
        batchTokensMax,
        sequencesMax: batchTokensMax,
        tableEntriesMax: Math.min(tableEntriesMax, batchTokensMax * contextLength),
        vocabularySize,
      },
    );
  }

  get weightBytes(): number {
    return this.#weights.bytes;
  }

  memory(): DeviceMemory {
    return {
      freeBytes: Math.max(0, this.#gpu.freeBytes() - reservedBytes),
      kvShareDefault,
      isEachRanksOwn: true,
    };
  }

  allocateKv(size: KvPoolSize): DeviceModel {
    if (this.#cache) throw new DeviceError('DEVICE_FAILED', 'the KV cache is made once');
    this.#blockPositions = size.blockPositions;
    this.#cache = new KvPool(this.#gpu, this.#source.kv, this.#types.kv, size);
    const facts = { ...size, bytesPerPosition: this.kv.bytesPerPosition };
    const model = new CudaModel(
      this.#gpu,
      this.#source,
      this.#options,
      this.#executor,
      this.#cache,
      facts,
      this.weightBytes,
      this.#adapters,
    );
    model.warmUp(this.#types.warmUp);
    return model;
  }

  close(): void {
    this.#executor.close();
    this.#cache?.close();
    this.#group?.close();
  }
}

/** One step in flight: its upload, its results and the event that says they are there. */
interface RingEntry {
  upload: HostMemory;
  tokens: HostMemory;
  logits: HostMemory | undefined;
  hidden: HostMemory | undefined;
  sampling: SamplingMemory;
  started: Handle;
  done: Handle;
}

interface InFlight {
  entry: RingEntry;
  outputs: number;
  wants: Uint8Array;
  queued: QueuedOutputs;
}

/** What of a step travels to the host beside its tokens. */
interface QueuedOutputs {
  /** Where each output row's logits are; absent: in its own place. */
  logitPlaces?: Int32Array | undefined;
  hiddenRows: number;
  logitRows: number;
  logprobs: PendingLogprobs | undefined;
}

const nothingQueued: QueuedOutputs = { hiddenRows: 0, logitRows: 0, logprobs: undefined };

function columnsOf(
  { tokens, positions, outputs, segments }: StepBatch,
  samplingRows?: SamplingRows,
): StepColumns {
  return {
    samplingRows,
    tokens,
    positions,
    outputRows: outputs.rows.subarray(0, outputs.count),
    ends: rowEnds(outputs),
    segments: segments.count,
    adapters: segments.adapter,
    sampling: outputs.sampling,
    segmentRows: segments.rows,
    kvLengths: segments.kvLength,
    blockStarts: segments.blockStart,
    blocks: segments.blocks.subarray(0, segments.blockStart[segments.count]),
  };
}

/** A model on the GPU: steps are queued by {@link launch} and waited for by {@link collect}. */
export class CudaModel implements DeviceModel {
  readonly kv: KvPoolFacts;
  readonly weightBytes: number;
  readonly inFlightStepsMax = inFlightStepsMax;
  readonly adapters?: AdapterTable;
  readonly hiddenWidth: number;
  readonly samplingFeatures = samplingFeature.draw | samplingFeature.state | samplingFeature.logprobs;
  readonly #gpu: Gpu;
  readonly #source: DeviceModelSource;
  readonly #options: DeviceModelOptions;
  readonly #executor: Executor;
  readonly #cache: KvPool;
  readonly #checker: StepChecker;
  readonly #sampling: SamplingRoom;
  readonly #adapters: AdapterPool | undefined;
  readonly #ring: RingEntry[] = [];
  readonly #flight: InFlight[] = [];
  #launched = 0;
  #collected: RingEntry | undefined;
  #previousOutputs = 0;
  #closed = false;

  constructor(
    gpu: Gpu,
    source: DeviceModelSource,
    options: DeviceModelOptions,
    executor: Executor,
    cache: KvPool,
    kv: KvPoolFacts,
    weightBytes: number,
    adapters?: AdapterPool,
  ) {
    this.#gpu = gpu;
    this.#source = source;
    this.#options = options;
    this.#executor = executor;
    this.#cache = cache;
    this.kv = kv;
    this.weightBytes = weightBytes;
    this.#checker = new StepChecker(kv.blocks);
    this.#sampling = new SamplingRoom(gpu, source.vocabularySize);
    this.hiddenWidth = source.hiddenWidth ?? 0;
    this.#adapters = adapters;
    if (adapters) this.adapters = adapters.table;
    for (let k = 0; k <= inFlightStepsMax; k++) this.#ring.push(this.#openEntry());
  }

  #openEntry(): RingEntry {
    const { driver } = this.#gpu;
    return {
      upload: new HostMemory(driver, this.#executor.inputWordsMax * 4),
      tokens: new HostMemory(driver, Math.max(1, this.#options.batchTokensMax) * 4),
      logits: undefined,
      hidden: undefined,
      sampling: { staging: undefined, logprobs: undefined },
      started: handleFrom((out) => driver.cuEventCreate(out, 0)),
      done: handleFrom((out) => driver.cuEventCreate(out, 0)),
    };
  }

  launch(batch: StepBatch): void {
    if (this.#closed) throw new DeviceError('DEVICE_FAILED', 'the model was closed; load it again');
    const { vocabularySize, contextLength } = this.#source;
    this.#adapters?.settle();
    this.#checker.check(batch, {
      ...this.kv,
      vocabularySize,
      contextLength,
      batchTokensMax: this.#options.batchTokensMax,
      previousOutputs: this.#previousOutputs,
      adapters: this.#adapters,
      givesHidden: this.hiddenWidth > 0,
    });
    const { driver, stream } = this.#gpu;
    const entry = definite(this.#ring[this.#launched++ % this.#ring.length], 'a ring entry');
    this.#cache.operate(batch.kv);
    const { count, wants } = batch.outputs;
    driver.cuEventRecord(entry.started, stream);
    const queued = batch.tokens.length > 0 ? this.#queueRows(batch, entry) : nothingQueued;
    driver.cuEventRecord(entry.done, stream);
    this.#previousOutputs = count;
    this.#flight.push({ entry, outputs: count, wants: wants.slice(0, count), queued });
  }

  #queueRows(batch: StepBatch, entry: RingEntry): QueuedOutputs {
    const { driver, stream } = this.#gpu;
    const { count, wants } = batch.outputs;
    const ready = this.#executor.readyFor(columnsOf(batch));
    const rows = this.#sampling.prepare(batch.outputs, entry.sampling);
    const columns = columnsOf(batch, rows);
    const { blockPositions } = this.kv;
    const words = ready.layout.write(entry.upload, columns, blockPositions, this.#cache.sinkPlace);
    this.#executor.queue(ready, entry.upload.address, words);
    if (count === 0) return nothingQueued;
    driver.cuMemcpyDtoHAsync_v2(entry.tokens.address, this.#executor.sampled, count * 4, stream);
    const logprobs = rows && this.#sampling.fetch(rows, entry.sampling);
    const logitPlaces = picksLogits(ready.layout.bucket) ? columns.ends?.logitPlaces : undefined;
    let logitRows = 0;
    let hiddenRows = 0;
    for (let row = 0; row < count; row++) {
      if ((wants[row] as number) & want.logits) logitRows = (logitPlaces?.[row] ?? row) + 1;
      if ((wants[row] as number) & want.hidden) hiddenRows = row + 1;
    }
    const { logitsAddress, hiddenAddress } = ready.program;
    entry.logits = this.#fetch(logitsAddress, logitRows * this.#source.vocabularySize, entry.logits);
    entry.hidden = this.#fetch(hiddenAddress, hiddenRows * this.hiddenWidth, entry.hidden);
    return { logitPlaces, logitRows, hiddenRows, logprobs };
  }

  /** Queues the copy of so many float32 to the host. @returns where they arrive */
  #fetch(from: DevicePointer, count: number, known: HostMemory | undefined): HostMemory | undefined {
    if (count === 0) return known;
    const { driver, stream } = this.#gpu;
    const memory = HostMemory.atLeast(driver, count * 4, known);
    driver.cuMemcpyDtoHAsync_v2(memory.address, from, count * 4, stream);
    return memory;
  }

  collect(): StepResult {
    const { entry, outputs, wants, queued } = definite(this.#flight.shift(), 'a launched step');
    const startedNs = systemClock.nowNs();
    this.#gpu.driver.cuEventSynchronize(entry.done);
    this.#collected = entry;
    const tokens = entry.tokens.words.subarray(0, outputs);
    for (let row = 0; row < outputs; row++)
      if (!((wants[row] as number) & want.token)) tokens[row] = hostChooses;
    const computeNs = systemClock.nowNs() - startedNs;
    const output: StepOutput = { tokens };
    const { logitPlaces: places, logitRows, hiddenRows, logprobs } = queued;
    if (logitRows > 0 && entry.logits) {
      const values = entry.logits.floats.subarray(0, logitRows * this.#source.vocabularySize);
      output.logits = { values, ...(places && { places }) };
    }
    if (hiddenRows > 0 && entry.hidden)
      output.rowHidden = { values: entry.hidden.floats.subarray(0, hiddenRows * this.hiddenWidth) };
    if (logprobs && entry.sampling.logprobs)
      output.logprobs = readLogprobs(logprobs, entry.sampling.logprobs);
    return { output, computeNs };
  }

  /** Milliseconds that the GPU took for the step that was collected last; for benchmarks. */
  lastStepMs(): number {
    const entry = definite(this.#collected, 'a collected step');
    const ms = new Float32Array(1);
    this.#gpu.driver.cuEventElapsedTime_v2(ms, entry.started, entry.done);
    return ms[0] ?? Number.NaN;
  }

  /** Makes and captures the programs of pure decoding up to so many sequences, with steps that hold nothing. */
  warmUp(sequencesMax: number): void {
    const entry = definite(this.#ring[0], 'a ring entry');
    for (const bucket of decodeBuckets(Math.min(sequencesMax, this.#options.batchTokensMax))) {
      const ready = this.#executor.readyIn(bucket);
      const words = ready.layout.write(
        entry.upload,
        emptyStep,
        this.kv.blockPositions,
        this.#cache.sinkPlace,
      );
      // The first run is kernel by kernel, the second is captured.
      for (let run = 0; run < 2; run++) this.#executor.queue(ready, entry.upload.address, words);
      // The next one is written where this one is read from.
      this.#gpu.synchronize();
    }
  }

  /** Milliseconds of each kind of operation in a step like this one, which must have run before; for benchmarks. */
  profile(batch: StepBatch, runs = 9): Map<string, number> {
    return this.#executor.profile(this.#executor.readyFor(columnsOf(batch)), runs);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gpu.synchronize();
    for (const { upload, tokens, logits, hidden, sampling, started, done } of this.#ring) {
      for (const memory of [upload, tokens, logits, hidden, sampling.staging, sampling.logprobs])
        memory?.close();
      this.#gpu.driver.cuEventDestroy_v2(started);
      this.#gpu.driver.cuEventDestroy_v2(done);
    }
    this.#sampling.close();
    this.#executor.close();
    this.#cache.close();
  }
}
