import { assert, definite } from '../../base/errors.ts';
import { logprobsMax } from '../../base/limits.ts';
import type { BatchShape, Graph } from '../../graph/graph.ts';
import { DeviceError } from '../errors.ts';
import { type FusedGraph, fuse } from '../passes/fuse.ts';
import type { AdapterPool } from './adapter-pool.ts';
import type { CapturedGraph } from './capture.ts';
import { type DevicePointer, handleFrom } from './driver.ts';
import { Gemms, gemmWorkspaceBytes } from './gemm.ts';
import type { Gpu } from './gpu.ts';
import { int, LaunchArena, pointer } from './launch.ts';
import type { Bucket, Constants, LoweringState, ModelParts } from './lowering.ts';
import { MemoryPool } from './memory-pool.ts';
import type { NcclGroup } from './nccl.ts';
import { Program } from './program.ts';
import { bucketOf, type StepColumns, StepLayout, samplingWords, stepNeeds } from './step-layout.ts';
import { type ActivationType, type ElementType, fixedView, type View } from './views.ts';
import type { GpuWeights } from './weights.ts';

/** Programs kept; the least recently used one goes. */
const programsMax = 96;
/** Steps of more rows are queued kernel by kernel: they are long, and captured graphs of many shapes would fill memory. */
const captureRowsMax = 2048;
/** Counters of split attention: sequences × key heads of one step. */
const arrivalsMax = 1 << 16;
/** Output rows that the arena has room for from the start (their float32 logits are large); it grows for steps of more. */
const outputsReserved = 1024;
/** Threads of a row's block in `sample.cu`. */
const samplingThreads = 1024;

/** How a graph is recorded for a bucket. */
export type RecordGraph = (shape: BatchShape) => Graph;

/** Limits of an executor's steps. */
export interface ExecutorOptions {
  readonly batchTokensMax: number;
  readonly sequencesMax: number;
  /** Entries of all block tables of one step. */
  readonly tableEntriesMax: number;
  readonly vocabularySize: number;
}

/** Stacks whatever reads the same input: weights lie where we put them. */
const canStack = () => true;

/** What a bucket's program needs, ready. */
export interface Ready {
  readonly program: Program;
  readonly layout: StepLayout;
}

/** Runs steps of one model: programs by bucket, the arena they share, and the step's upload. */
export class Executor {
  readonly parts: ModelParts;
  readonly #record: RecordGraph;
  readonly #options: ExecutorOptions;
  readonly #pool: MemoryPool;
  readonly #programs = new Map<string, Ready>();
  readonly #seen = new Set<string>();
  readonly #inputs: DevicePointer;
  /** Tokens that the last step sampled, by output row. */
  readonly sampled: DevicePointer;
  readonly #arrivals: DevicePointer;
  #arena: { pool: MemoryPool; at: DevicePointer; bytes: number } | undefined;

  constructor(
    gpu: Gpu,
    pool: MemoryPool,
    weights: GpuWeights,
    types: { activation: ActivationType; kv: ElementType },
    group: NcclGroup | undefined,
    cache: Pick<ModelParts, 'kvLayer' | 'blockPositions'>,
    adapters: AdapterPool | undefined,
    record: RecordGraph,
    options: ExecutorOptions,
  ) {
    this.#record = record;
    this.#options = options;
    this.#pool = pool;
    this.#inputs = pool.take(this.inputWordsMax * 4);
    this.sampled = pool.take(this.#rowsMax * 4);
    this.#arrivals = pool.take(arrivalsMax * 4);
    gpu.driver.cuMemsetD8Async(this.#arrivals, 0, arrivalsMax * 4, gpu.stream);
    gpu.driver.cuMemsetD8Async(this.sampled, 0, this.#rowsMax * 4, gpu.stream);
    this.parts = {
      gpu,
      gemms: new Gemms(gpu, pool.take(gemmWorkspaceBytes)),
      weights,
      activation: types.activation,
      kvType: types.kv,
      ...(group && { group }),
      ...(adapters && { adapters }),
      launches: new LaunchArena(),
      kvLayer: cache.kvLayer,
      // Known only once the KV cache is made, after the plans that size the arena.
      get blockPositions() {
        return cache.blockPositions;
      },
      constants: uploadedConstants(gpu, pool),
    };
  }

  /** 32-bit words that the largest step's upload takes. */
  get inputWordsMax(): number {
    const { sequencesMax, tableEntriesMax } = this.#options;
    return this.#rowsMax * (9 + samplingWords + 4) + sequencesMax * 16 + tableEntriesMax + 1024;
  }

  /** Rows of the largest bucket, at most. */
  get #rowsMax(): number {
    return Math.ceil(this.#options.batchTokensMax / 1024) * 1024 + 1024;
  }

  /** Makes room for the largest step, so that KV memory can be sized from what is left. */
  reserve(): void {
    const { batchTokensMax } = this.#options;
    const sequencesMax = Math.min(batchTokensMax, outputsReserved);
    const hasAdapters = this.parts.adapters !== undefined;
    const decode = bucketOf({
      ...{ rows: sequencesMax, outputRows: 1, logitRows: 1, decodeItems: 1, prefillItems: 0 },
      ...{ hasHidden: false, hasAdapters },
    });
    const prefill = bucketOf({
      ...{ rows: batchTokensMax, outputRows: sequencesMax, logitRows: sequencesMax },
      ...{ decodeItems: sequencesMax, prefillItems: 1, hasHidden: false, hasAdapters },
    });
    const plain = hasAdapters ? [decode, prefill].map((bucket) => ({ ...bucket, hasAdapters: false })) : [];
    const sizes = [decode, prefill, ...plain].map((bucket) => this.#plan(bucket).program.arenaBytes);
    this.#growArena(Math.max(...sizes));
  }

  /**
   * Queues a step whose columns lie in `words` already.
   */
  queue(ready: Ready, upload: bigint, words: number): void {
    const { gpu } = this.parts;
    gpu.driver.cuMemcpyHtoDAsync_v2(this.#inputs, upload, words * 4, gpu.stream);
    const { bucket } = ready.program;
    const key = keyOf(bucket);
    const captures = bucket.rows <= captureRowsMax && this.#seen.has(key);
    this.#seen.add(key);
    ready.program.run(captures);
  }

  /**
   * The program that a step runs in.
   * @throws DeviceError DEVICE_OUT_OF_MEMORY, before anything of the step is queued
   */
  readyFor(step: StepColumns): Ready {
    if (step.blocks.length > this.#options.tableEntriesMax) {
      const problem = `a step with ${step.blocks.length} KV blocks in its tables; ${this.#options.tableEntriesMax} are the most`;
      throw new DeviceError('DEVICE_OUT_OF_MEMORY', `${problem}: run fewer sequences at once`);
    }
    return this.readyIn(bucketOf(stepNeeds(step)));
  }

  /** A bucket's program, made where there is none. */
  readyIn(bucket: Bucket): Ready {
    const key = keyOf(bucket);
    const known = this.#programs.get(key);
    if (known) {
      this.#programs.delete(key);
      this.#programs.set(key, known);
      return known;
    }
    const fresh = this.#plan(bucket);
    this.#growArena(fresh.program.arenaBytes);
    fresh.program.place(definite(this.#arena, 'an arena').at);
    this.#programs.set(key, fresh);
    const [oldest] = this.#programs;
    if (this.#programs.size > programsMax && oldest) {
      this.parts.gpu.synchronize();
      oldest[1].program.close();
      this.#programs.delete(oldest[0]);
    }
    return fresh;
  }

  /** The graph of a bucket as the lowering sees it; also says which weights the model has. */
  fused(shape: BatchShape): FusedGraph {
    return fuse(this.#record(shape), canStack);
  }

  /**
   * Milliseconds of each kind of operation of a program, by itself.
   * @param runs of each, of which the median counts
   */
  profile({ program }: Ready, runs: number): Map<string, number> {
    const names = [...new Set(program.operationNames)];
    return new Map(names.map((name) => [name, this.#timed(program.captureOnly(name), runs)]));
  }

  #timed(graph: CapturedGraph, runs: number): number {
    const { driver, stream } = this.parts.gpu;
    const start = handleFrom((out) => driver.cuEventCreate(out, 0));
    const end = handleFrom((out) => driver.cuEventCreate(out, 0));
    const ms = new Float32Array(1);
    const times = Array.from({ length: runs }, () => {
      driver.cuEventRecord(start, stream);
      graph.launch(stream);
      driver.cuEventRecord(end, stream);
      driver.cuEventSynchronize(end);
      driver.cuEventElapsedTime_v2(ms, start, end);
      return ms[0] ?? Number.NaN;
    });
    graph.close();
    driver.cuEventDestroy_v2(start);
    driver.cuEventDestroy_v2(end);
    return times.sort((a, b) => a - b)[runs >> 1] ?? Number.NaN;
  }

  #plan(bucket: Bucket): Ready {
    const layout = new StepLayout(bucket);
    assert(
      layout.blocks + this.#options.tableEntriesMax <= this.inputWordsMax,
      'a step that fits its upload',
    );
    const addresses = layout.addresses(this.#inputs, this.sampled, this.#arrivals);
    const { rows, outputRows, logitRows, hasHidden } = bucket;
    const fused = this.fused({ tokens: rows, outputRows, ...(hasHidden && { logitRows }) });
    const tail = (state: LoweringState, logits: View) =>
      this.#pushSampling(state, logits, addresses.sampling);
    return { layout, program: new Program(this.parts, fused, bucket, addresses, tail) };
  }

  #pushSampling(state: LoweringState, logits: View, sampling: DevicePointer): void {
    const tokens = fixedView(this.sampled, 1, logits.rows, 'f32');
    state.pushKernel({
      file: 'sample',
      name: 'sample',
      defines: { TOP_MAX: logprobsMax },
      grid: [logits.rows, 1, 1],
      threads: samplingThreads,
      touches: [logits],
      parameters: (at) => [at(logits), pointer(sampling), at(tokens), int(logits.width)],
    });
  }

  #growArena(bytes: number): void {
    if (this.#arena && this.#arena.bytes >= bytes) return;
    const { gpu } = this.parts;
    gpu.synchronize();
    for (const { program } of this.#programs.values()) program.close();
    this.#programs.clear();
    this.#arena?.pool.close();
    this.#arena = undefined;
    const pool = new MemoryPool(gpu.driver);
    this.#arena = { pool, at: pool.take(bytes), bytes };
  }

  close(): void {
    this.parts.gpu.synchronize();
    for (const { program } of this.#programs.values()) program.close();
    this.#programs.clear();
    this.#arena?.pool.close();
    this.parts.gemms.close();
    this.parts.launches.close();
    this.#pool.close();
  }
}

function keyOf(bucket: Bucket): string {
  return Object.values(bucket).join('/');
}

function uploadedConstants(gpu: Gpu, pool: MemoryPool): Constants {
  const known = new Map<string, DevicePointer>();
  return {
    floats(key, make) {
      const found = known.get(key);
      if (found !== undefined) return found;
      const values = make();
      const at = pool.take(values.byteLength);
      gpu.driver.cuMemcpyHtoD_v2(
        at,
        new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
        values.byteLength,
      );
      known.set(key, at);
      return at;
    },
  };
}
