import { systemClock } from '../../base/clock.ts';
import { definite } from '../../base/errors.ts';
import type { BatchShape, Graph } from '../../graph/graph.ts';
import { verifyGraph } from '../../graph/spec.ts';
import { checkBatch } from '../check-batch.ts';
import type {
  DeviceModel,
  DeviceModelOptions,
  DeviceModelSource,
  RowProbabilities,
  StepBatch,
  StepResult,
} from '../device.ts';
import { probabilityBlock } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { evaluate } from './evaluate.ts';
import { KvStore } from './kv-store.ts';
import { softmaxWeights } from './ops/normalize.ts';
import { loadWeights, type ReferenceWeights } from './weights.ts';

/** A model whose steps are evaluated node by node. Every step records and verifies its graph anew: clarity over speed. */
export class ReferenceModel implements DeviceModel {
  readonly weightBytes: number;
  readonly #source: DeviceModelSource;
  readonly #options: DeviceModelOptions;
  readonly #weights: ReferenceWeights;
  readonly #kv: KvStore;
  #closed = false;

  constructor(source: DeviceModelSource, options: DeviceModelOptions) {
    this.#source = source;
    this.#options = options;
    this.#weights = loadWeights(this.#record({ tokens: 1, segmentRows: [1], outputRows: 1 }), source.weights);
    this.#kv = new KvStore(source.kv, options);
    let bytes = 0;
    for (const weight of this.#weights.values()) bytes += weight.byteLength;
    this.weightBytes = bytes;
  }

  get kvBytesPerPosition(): number {
    return this.#kv.bytesPerPosition;
  }

  run(batch: StepBatch): StepResult {
    this.#checkOpen();
    const { vocabularySize, contextLength } = this.#source;
    checkBatch(batch, { vocabularySize, contextLength, ...this.#options });
    const started = systemClock.nowNs();
    const graph = this.#record({
      tokens: batch.tokens.length,
      segmentRows: batch.segments.map((segment) => segment.rows),
      outputRows: batch.outputRows.length,
    });
    for (const { slot, kvLength, rows } of batch.segments) this.#kv.extend(slot, kvLength, rows);
    const { tokens, positions, outputRows, segments } = batch;
    const integers = { tokens, positions, outputRows };
    const outputs = evaluate(graph, { integers, weights: this.#weights, segments, kv: this.#kv });
    const logits = definite(outputs.logits, "output 'logits'");
    const computeNs = systemClock.nowNs() - started;
    if (batch.want === 'logits') {
      const { temperatures } = batch;
      const probabilities = temperatures && probabilitiesOf(logits, temperatures);
      return { output: { kind: 'logits', logits, ...(probabilities && { probabilities }) }, computeNs };
    }
    return { output: { kind: 'tokens', tokens: likeliest(logits, outputRows.length) }, computeNs };
  }

  copySlot(from: number, to: number, length: number): void {
    this.#checkOpen();
    this.#kv.copy(from, to, length);
  }

  releaseSlot(slot: number): void {
    this.#checkOpen();
    this.#kv.release(slot);
  }

  close(): void {
    this.#closed = true;
  }

  #record(shape: BatchShape): Graph {
    const graph = this.#source.record(shape);
    verifyGraph(graph);
    return graph;
  }

  #checkOpen(): void {
    if (this.#closed) throw new DeviceError('DEVICE_FAILED', 'the model was closed; load it again');
  }
}

function probabilitiesOf(logits: Float32Array, temperatures: Float32Array): RowProbabilities {
  const width = logits.length / temperatures.length;
  const blocks = Math.floor(width / probabilityBlock);
  const values = new Float32Array(logits.length);
  const blockSums = new Float32Array(temperatures.length * blocks);
  for (const [row, temperature] of temperatures.entries()) {
    const own = Array.from(logits.subarray(row * width, (row + 1) * width), (logit) => logit / temperature);
    const weights = softmaxWeights(own);
    values.set(weights, row * width);
    for (let block = 0; block < blocks; block++) {
      const members = weights.slice(block * probabilityBlock, (block + 1) * probabilityBlock);
      blockSums[row * blocks + block] = members.reduce((sum, weight) => sum + weight, 0);
    }
  }
  return { values, blockSums };
}

/** The index of each row's largest logit; the lowest of equal ones. */
function likeliest(logits: Float32Array, rows: number): Int32Array {
  const width = logits.length / rows;
  return Int32Array.from({ length: rows }, (_, row) => {
    let best = 0;
    for (let i = 1; i < width; i++) {
      if ((logits[row * width + i] as number) > (logits[row * width + best] as number)) best = i;
    }
    return best;
  });
}
