import { systemClock } from '../../base/clock.ts';
import { definite } from '../../base/errors.ts';
import type { BatchShape, Graph } from '../../graph/graph.ts';
import { verifyGraph } from '../../graph/spec.ts';
import { AdapterTable, linearShapes } from '../adapters.ts';
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
import { handedOn } from '../handed-on.ts';
import { hostMemory } from '../host-memory.ts';
import { after, type Pending } from '../pending.ts';
import { noLogits, type RowEnds, rowEnds } from '../row-ends.ts';
import { SampledTokens } from '../sampled-tokens.ts';
import {
  probabilityBlock,
  type RowProbabilities,
  type StepBatch,
  type StepOutput,
  type StepResult,
  samplingFeature,
  want,
} from '../step.ts';
import { ReferenceAdapters } from './adapters.ts';
import { evaluate, type Outputs } from './evaluate.ts';
import { KvBlocks } from './kv-blocks.ts';
import { softmaxWeights } from './ops/normalize.ts';
import { ReferenceSampler } from './sampling.ts';
import { loadWeights, type ReferenceWeights } from './weights.ts';

/** A model's weights as float32 arrays. */
export class ReferenceLoadedWeights implements LoadedWeights {
  readonly weightBytes: number;
  readonly kv: KvAbility;
  readonly #source: DeviceModelSource;
  readonly #options: DeviceModelOptions;
  readonly #weights: ReferenceWeights;

  constructor(source: DeviceModelSource, options: DeviceModelOptions) {
    this.#source = source;
    this.#options = options;
    this.#weights = loadWeights(recorded(source, { tokens: 1, outputRows: 1 }), source.weights);
    let bytes = 0;
    for (const weight of this.#weights.values()) bytes += weight.byteLength;
    this.weightBytes = bytes;
    const elements = source.kv.layers.reduce(
      (sum, layer) => sum + layer.keyElements + layer.valueElements,
      0,
    );
    this.kv = {
      bytesPerPosition: elements * Float32Array.BYTES_PER_ELEMENT,
      layout: 'either',
      blockPositions: source.contextLength,
    };
  }

  memory(): DeviceMemory {
    return hostMemory();
  }

  allocateKv(size: KvPoolSize): ReferenceModel {
    const facts = { ...size, bytesPerPosition: this.kv.bytesPerPosition };
    return new ReferenceModel(this.#source, this.#options, this.#weights, this.weightBytes, facts);
  }

  close(): void {}
}

/** A model whose steps are evaluated node by node. Every step records and verifies its graph anew: clarity over speed. */
export class ReferenceModel implements DeviceModel {
  readonly weightBytes: number;
  readonly kv: KvPoolFacts;
  /** It computes in {@link launch}; two in flight let the overlapped loop be tested on real models. */
  readonly inFlightStepsMax = 2;
  readonly samplingFeatures = samplingFeature.draw | samplingFeature.state | samplingFeature.logprobs;
  readonly hiddenWidth: number;
  readonly #source: DeviceModelSource;
  readonly #options: DeviceModelOptions;
  readonly #weights: ReferenceWeights;
  readonly #kv: KvBlocks;
  readonly #checker: StepChecker;
  readonly #sampler: ReferenceSampler;
  readonly adapters?: AdapterTable;
  readonly #adapters: ReferenceAdapters | undefined;
  readonly #sampled = new SampledTokens();
  readonly #results: Pending<StepResult>[] = [];
  /** The step launched last: the next one goes on when it is done. */
  #last: Pending<unknown>;
  #closed = false;

  constructor(
    source: DeviceModelSource,
    options: DeviceModelOptions,
    weights: ReferenceWeights,
    weightBytes: number,
    kv: KvPoolFacts,
  ) {
    this.#source = source;
    this.#options = options;
    this.#weights = weights;
    this.weightBytes = weightBytes;
    this.kv = kv;
    this.hiddenWidth = source.hiddenWidth ?? 0;
    this.#kv = new KvBlocks(source.kv, kv, options.kvDtype);
    this.#checker = new StepChecker(kv.blocks);
    this.#sampler = new ReferenceSampler();
    if (!options.adapters) return;
    const linears = linearShapes(recorded(source, { tokens: 1, outputRows: 1 }));
    this.adapters = new AdapterTable(options.adapters, linears);
    this.#adapters = new ReferenceAdapters();
  }

  launch(batch: StepBatch): void {
    if (this.#closed) throw new DeviceError('DEVICE_FAILED', 'the model was closed; load it again');
    const changes = this.adapters?.takeChanges() ?? [];
    const result = after(this.#last, () => {
      this.#adapters?.change(changes);
      return this.#run(batch);
    });
    // Whoever collects it hears of its failure.
    if (result instanceof Promise) result.catch(() => {});
    this.#last = result;
    this.#results.push(result);
  }

  #run(batch: StepBatch): Pending<StepResult> {
    const { vocabularySize, contextLength } = this.#source;
    this.#checker.check(batch, {
      ...this.kv,
      vocabularySize,
      contextLength,
      batchTokensMax: this.#options.batchTokensMax,
      previousOutputs: this.#sampled.count,
      adapters: this.#adapters,
      givesHidden: this.hiddenWidth > 0,
    });
    const startedNs = systemClock.nowNs();
    this.#kv.operate(batch.kv);
    const ends = rowEnds(batch.outputs);
    const outputs = batch.tokens.length === 0 ? {} : this.#evaluate(batch, ends);
    return after(outputs, ({ logits = new Float32Array(0), hidden }) => {
      const output = hidden && !ends ? handedOn(batch, hidden) : this.#chosen(batch, logits, ends);
      if (ends && hidden) output.rowHidden = { values: hidden };
      return { output, computeNs: systemClock.nowNs() - startedNs };
    });
  }

  #chosen(batch: StepBatch, logits: Float32Array, ends: RowEnds | undefined): StepOutput {
    const { vocabularySize: width } = this.#source;
    const placeOf = (row: number): number => (ends ? (ends.logitPlaces[row] as number) : row);
    const output = this.#sampler.choose(batch.outputs, (row) => ({
      logits: logits.subarray(placeOf(row) * width, (placeOf(row) + 1) * width),
    }));
    const probabilities = probabilitiesOf(batch, logits, width, placeOf);
    output.logits = {
      values: logits,
      ...(ends && { places: ends.logitPlaces }),
      ...(probabilities && { probabilities }),
    };
    this.#sampled.keep(batch.serial, output);
    return output;
  }

  collect(): Pending<StepResult> {
    return definite(this.#results.shift(), 'a launched step');
  }

  #evaluate(batch: StepBatch, ends: RowEnds | undefined): Pending<Outputs> {
    const tokens = this.#sampled.resolve(batch);
    const { positions, segments, outputs } = batch;
    const { count } = outputs;
    const logitRows = ends?.logitRows;
    const graph = recorded(this.#source, {
      tokens: tokens.length,
      outputRows: count,
      ...(logitRows && { logitRows: logitRows.length }),
    });
    const views = Array.from({ length: segments.count }, (_, index) => ({
      rows: segments.rows[index] as number,
      kvLength: segments.kvLength[index] as number,
      blocks: segments.blocks.subarray(segments.blockStart[index], segments.blockStart[index + 1]),
    }));
    for (const { blocks, kvLength, rows } of views) this.#kv.extend(blocks, kvLength, rows);
    const integers = {
      ...{ tokens, positions, outputRows: outputs.rows.subarray(0, count) },
      ...(logitRows && { logitRows }),
    };
    const { collective } = this.#options;
    return evaluate(graph, {
      integers,
      ...(batch.hidden && { floats: { hidden: batch.hidden } }),
      ...(collective && { collective }),
      weights: this.#weights,
      ...(segments.adapter && { adapters: this.#adapters?.rowsOf(batch, logitRows) }),
      segments: views,
      kv: this.#kv,
    });
  }

  close(): void {
    this.#closed = true;
  }
}

function recorded(source: DeviceModelSource, shape: BatchShape): Graph {
  const graph = source.record(shape);
  verifyGraph(graph);
  return graph;
}

/** Every row's softmax at its temperature, if any row wants it. */
function probabilitiesOf(
  { outputs }: StepBatch,
  logits: Float32Array,
  width: number,
  placeOf: (row: number) => number,
): RowProbabilities | undefined {
  const { count, wants, sampling } = outputs;
  if (!wants.subarray(0, count).some((wanted) => wanted & want.probabilities)) return undefined;
  const blocks = Math.floor(width / probabilityBlock);
  const values = new Float32Array(logits.length);
  const blockSums = new Float32Array((logits.length / width) * blocks);
  for (let row = 0; row < count; row++) {
    const place = placeOf(row);
    if (place === noLogits) continue;
    const temperature =
      (wants[row] as number) & want.probabilities ? (sampling.temperature[row] as number) : 1;
    const own = Array.from(
      logits.subarray(place * width, (place + 1) * width),
      (logit) => logit / temperature,
    );
    const weights = softmaxWeights(own);
    values.set(weights, place * width);
    for (let block = 0; block < blocks; block++) {
      const members = weights.slice(block * probabilityBlock, (block + 1) * probabilityBlock);
      blockSums[place * blocks + block] = members.reduce((sum, weight) => sum + weight, 0);
    }
  }
  return { values, blockSums };
}
