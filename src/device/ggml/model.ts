import { assert, definite } from '../../base/errors.ts';
import type { AdapterSlots } from '../adapters.ts';
import { StepChecker, type StepLimits } from '../check-step.ts';
import type { Collective } from '../collective/collective.ts';
import type { DeviceModel, DeviceModelOptions, DeviceModelSource, KvPoolFacts } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { after, type Pending } from '../pending.ts';
import { noLogits } from '../row-ends.ts';
import {
  hostChooses,
  type KvOperations,
  kvOperation,
  noTokenPossible,
  type OutputTable,
  type StepBatch,
  type StepOutput,
  type StepResult,
  want,
} from '../step.ts';
import { Compute } from './compute.ts';
import { type Executable, type GraphEnd, slotOf } from './executable.ts';
import { ExecutableCache } from './executable-cache.ts';
import type { KvRowClass } from './kv-arena.ts';
import type { ModelParts } from './lowering-state.ts';
import { padPrompts } from './pad-prompts.ts';
import { computePieces } from './pieces.ts';
import { type RowPlan, rowPlan } from './row-plan.ts';

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

/** A model on ggml's CPU backend: a KV block is a slot of a whole sequence. It computes in {@link launch}. */
export class GgmlModel implements DeviceModel {
  readonly weightBytes: number;
  readonly kv: KvPoolFacts;
  readonly inFlightStepsMax = 1;
  /** All but the argmax is the host's: its sampler beats ggml's sorts. */
  readonly samplingFeatures = 0;
  readonly hiddenWidth: number;
  readonly times: StepTimes = { recordNs: 0, inputsNs: 0, computeNs: 0, outputNs: 0 };
  readonly parts: ModelParts;
  readonly adapters?: AdapterSlots;
  readonly #compute: Compute;
  readonly #executables: ExecutableCache;
  readonly #checker: StepChecker;
  readonly #limits: StepLimits;
  /** Closed in reverse. */
  readonly #owned: { close(): void }[] = [];
  readonly #collective: Collective | undefined;
  /** Columns of the residual stream that this stage hands on; 0 for one that makes logits. */
  readonly #handedOnWidth: number;
  #result: Pending<StepResult> | undefined;
  #open = true;

  constructor(
    parts: ModelParts,
    source: DeviceModelSource,
    options: DeviceModelOptions & { blocks: number },
    poll: number,
  ) {
    this.parts = parts;
    const { vocabularySize, contextLength } = source;
    const { batchTokensMax, blocks, threads } = options;
    this.weightBytes = parts.weights.bytes;
    if (parts.adapters) this.adapters = parts.adapters.pool.table;
    this.#collective = options.collective;
    const probe = source.record({ tokens: 1, outputRows: 1 });
    this.#handedOnWidth = probe.nodes[probe.outputs.hidden ?? -1]?.shape[1] ?? 0;
    this.hiddenWidth = source.hiddenWidth ?? 0;
    const pool = { blocks, blockPositions: contextLength, hostBlocks: 0 };
    this.kv = { ...pool, bytesPerPosition: parts.kv.bytesPerPosition };
    this.#checker = new StepChecker(blocks);
    this.#limits = {
      ...pool,
      vocabularySize,
      contextLength,
      batchTokensMax,
      previousOutputs: 0,
      adapters: parts.adapters?.pool,
      givesHidden: this.hiddenWidth > 0,
    };
    this.#executables = this.owns(new ExecutableCache(parts, source));
    try {
      this.#compute = this.owns(new Compute(parts.library, threads, poll));
      // Lays out the largest step once, so that the shared activation buffer need not grow, which would drop every recorded graph.
      const tokens = Math.min(batchTokensMax, contextLength);
      const makesLogits = this.#handedOnWidth === 0;
      const outputRows = makesLogits ? Math.min(tokens, blocks) : 1;
      const largest = { tokens, segmentRows: [tokens], outputRows };
      this.#executables.get(largest, { argmax: false, probabilities: makesLogits });
    } catch (thrown) {
      this.close();
      throw thrown;
    }
  }

  /** Hands over something to close with the model. */
  owns<T extends { close(): void }>(part: T): T {
    this.#owned.push(part);
    return part;
  }

  /** Graphs kept for reuse. */
  get recordedGraphs(): number {
    return this.#executables.size;
  }

  launch(batch: StepBatch): void {
    assert(this.#open, 'an open model');
    assert(!this.#result, 'the step before was collected');
    const started = process.hrtime.bigint();
    this.parts.adapters?.pool.settle();
    this.#checker.check(batch, this.#limits);
    this.#operate(batch.kv);
    if (batch.tokens.length === 0) {
      this.#result = { output: { tokens: new Int32Array(0) }, computeNs: 0 };
      return;
    }
    this.#result = this.#run(this.#padded(batch), started);
    // Whoever collects it hears of its failure.
    if (this.#result instanceof Promise) this.#result.catch(() => {});
  }

  collect(): Pending<StepResult> {
    const result = definite(this.#result, 'a launched step');
    this.#result = undefined;
    return result;
  }

  /** What goes from stage to stage has the plan's rows. */
  #padded(batch: StepBatch): StepBatch {
    if (batch.hidden || this.#handedOnWidth > 0) return batch;
    const { batchTokensMax, contextLength } = this.#limits;
    return padPrompts(batch, batchTokensMax, contextLength);
  }

  #run(batch: StepBatch, started: bigint): Pending<StepResult> {
    const rows = rowPlan(batch);
    const executable = this.#executableOf(batch, rows);
    const recorded = process.hrtime.bigint();
    this.#writeInputs(batch, rows);
    executable.bind(batch.segments);
    const bound = process.hrtime.bigint();
    this.times.recordNs = Number(recorded - started);
    this.times.inputsNs = Number(bound - recorded);
    const computing = computePieces(executable.pieces, this.#compute, this.#collective);
    return after(computing, () => {
      const computed = process.hrtime.bigint();
      const output = this.#output(batch, rows, executable);
      this.times.computeNs = Number(computed - bound);
      this.times.outputNs = Number(process.hrtime.bigint() - computed);
      return { output, computeNs: this.times.computeNs };
    });
  }

  #executableOf(batch: StepBatch, rows: RowPlan): Executable {
    const { segments, outputs, tokens } = batch;
    const segmentRows = Array.from(segments.rows.subarray(0, segments.count));
    const adapters = this.parts.adapters?.rows.place(batch, rows);
    const shape = { tokens: tokens.length, segmentRows, adapters };
    // A stage that hands on all rows has one graph for any count of wanted ones.
    if (this.#handedOnWidth > 0) {
      return this.#executables.get({ ...shape, outputRows: 1 }, { argmax: false, probabilities: false });
    }
    const logitRows = rows.logitRows && { logitRows: rows.logitRows.length };
    return this.#executables.get(
      { ...shape, outputRows: rows.outputRows.length, ...logitRows },
      endOf(outputs),
    );
  }

  #operate({ count, kinds, from, to, positions }: KvOperations): void {
    const { kv } = this.parts;
    for (let index = 0; index < count; index++) {
      const source = from[index] as number;
      const kind = kinds[index];
      if (kind === kvOperation.copy) kv.copySlot(source, to[index] as number, positions[index] as number);
      else if (kind === kvOperation.release) kv.releaseSlot(source);
      else throw new DeviceError('DEVICE_BATCH_INVALID', `ggml slots have no KV operation ${kind}`);
    }
  }

  #writeInputs(batch: StepBatch, { outputRows, logitRows, logitPlaces }: RowPlan): void {
    const { workspace, kv } = this.parts;
    const { count, wants, sampling } = batch.outputs;
    workspace.tokens.set(batch.tokens);
    workspace.positions.set(batch.positions);
    workspace.outputRows.set(outputRows);
    if (logitRows) workspace.logitRows.set(logitRows);
    if (batch.hidden) workspace.hidden.set(batch.hidden);
    kv.rowClasses.forEach((rowClass, index) => {
      this.#writeIndices(batch, rowClass, definite(workspace.rowIndices[index], 'row indices'));
    });
    const { temperatureLanes: lanes, inverseTemperatures } = workspace;
    for (let row = 0; row < count; row++) {
      const place = logitPlaces ? (logitPlaces[row] as number) : row;
      if (place === noLogits) continue;
      const isWanted = (wants[row] as number) & want.probabilities;
      const temperature = isWanted ? (sampling.temperature[row] as number) : 1;
      inverseTemperatures.fill(1 / temperature, place * lanes, (place + 1) * lanes);
    }
  }

  /** Numbers the KV rows that the step writes, token by token, head by head. */
  #writeIndices({ segments }: StepBatch, { rowBytes, kvHeads }: KvRowClass, indices: Uint32Array): void {
    const { contextLength, slotBytes } = this.parts.kv;
    const slotRows = slotBytes / rowBytes;
    let at = 0;
    for (let segment = 0; segment < segments.count; segment++) {
      const rows = segments.rows[segment] as number;
      const first = slotOf(segments, segment) * slotRows + (segments.kvLength[segment] as number) - rows;
      for (let i = 0; i < rows; i++) {
        for (let head = 0; head < kvHeads; head++) {
          const row = first + i + head * contextLength;
          indices[at++] = row % wordsPerUnit;
          indices[at++] = row / wordsPerUnit;
        }
      }
    }
  }

  #output({ tokens: rows, outputs }: StepBatch, plan: RowPlan, executable: Executable): StepOutput {
    const tokens = new Int32Array(outputs.count).fill(hostChooses);
    if (this.#handedOnWidth > 0) {
      return { tokens, hidden: executable.hidden(rows.length, this.#handedOnWidth) };
    }
    if (outputs.count === 0) return { tokens };
    const output = this.#chosen(outputs, plan, executable, tokens);
    const { hiddenPlaces } = plan;
    if (!hiddenPlaces) return output;
    const values = executable.hidden(plan.outputRows.length, this.hiddenWidth);
    return { ...output, rowHidden: { values, places: hiddenPlaces } };
  }

  #chosen(
    { count, wants }: OutputTable,
    { logitRows, logitPlaces }: RowPlan,
    executable: Executable,
    tokens: Int32Array,
  ): StepOutput {
    const { vocabularySize } = this.#limits;
    const logitCount = logitRows ? logitRows.length : count;
    if (logitCount === 0) return { tokens };
    const logits = executable.logits(logitCount, vocabularySize);
    const picked = executable.picksTokens ? executable.tokens(logitCount) : undefined;
    let all = 0;
    for (let row = 0; row < count; row++) {
      const wanted = wants[row] as number;
      all |= wanted;
      if ((wanted & want.token) === 0) continue;
      const place = logitPlaces ? (logitPlaces[row] as number) : row;
      const likeliest = definite(picked, 'picked tokens')[place] as number;
      tokens[row] = lowest(logits, place * vocabularySize, likeliest);
    }
    if ((all & want.logits) === 0) return { tokens };
    const places = logitPlaces && { places: logitPlaces };
    const probabilities =
      executable.makesProbabilities && executable.probabilities(logitCount, vocabularySize);
    return { tokens, logits: { values: logits, ...places, ...(probabilities && { probabilities }) } };
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    for (const part of this.#owned.reverse()) part.close();
  }
}

function endOf({ count, wants }: OutputTable): GraphEnd {
  let all = 0;
  for (let row = 0; row < count; row++) all |= wants[row] as number;
  return { argmax: (all & want.token) !== 0, probabilities: (all & want.probabilities) !== 0 };
}

/** ggml picks the last of equal logits; the rule is the first. */
function lowest(logits: Float32Array, start: number, picked: number): number {
  const max = logits[start + picked] as number;
  return Number.isFinite(max) ? logits.indexOf(max, start) - start : noTokenPossible;
}
