import type { AdapterTable } from './adapters.ts';
import { DeviceError } from './errors.ts';
import {
  baseModel,
  type KvOperations,
  kvOperation,
  type OutputTable,
  type SamplingTable,
  type SegmentTable,
  type StepBatch,
  want,
} from './step.ts';

/** What a model was loaded for, and what it may be told to refer to. */
export interface StepLimits {
  vocabularySize: number;
  contextLength: number;
  batchTokensMax: number;
  blocks: number;
  blockPositions: number;
  hostBlocks: number;
  /** Output rows of the step before, which `tokens` may name. */
  previousOutputs: number;
  /** Whether rows may want their final hidden states. */
  givesHidden?: boolean;
  /** What is in the adapters' slots; absent where there are none. */
  adapters?: Pick<AdapterTable, 'has'> | undefined;
}

function invalid(problem: string): DeviceError {
  return new DeviceError('DEVICE_BATCH_INVALID', `${problem} (a bug in the caller: please report it)`);
}

/**
 * Checks all that ggml would abort the process for, or a device would read outside its memory for.
 * @throws DeviceError DEVICE_BATCH_INVALID
 */
export class StepChecker {
  /** By block: the serial number of the check that last saw it written, so that nothing is cleared or allocated. */
  readonly #writers: Int32Array;
  #check = 0;

  constructor(blocks: number) {
    this.#writers = new Int32Array(blocks);
  }

  check(batch: StepBatch, limits: StepLimits): void {
    checkOperations(batch.kv, limits);
    const tokens = batch.tokens.length;
    if (tokens > limits.batchTokensMax || (tokens === 0 && batch.kv.count === 0)) {
      throw invalid(`a step of ${tokens} tokens; 1 to ${limits.batchTokensMax} were agreed`);
    }
    if (batch.positions.length !== tokens) {
      throw invalid(`${batch.positions.length} positions for ${tokens} tokens`);
    }
    const lowest = -limits.previousOutputs;
    for (let row = 0; row < tokens; row++) {
      const token = batch.tokens[row] as number;
      if (token >= lowest && token < limits.vocabularySize) continue;
      throw invalid(
        token < 0
          ? `row ${row} takes the token of output row ${-1 - token}; the step before had ${limits.previousOutputs}`
          : `token ${token} of row ${row} is outside the vocabulary of ${limits.vocabularySize}`,
      );
    }
    this.#checkSegments(batch, limits);
    checkOutputs(batch.outputs, tokens, limits.givesHidden ?? false);
  }

  #checkSegments(batch: StepBatch, limits: StepLimits): void {
    const { segments, positions } = batch;
    this.#check++;
    let firstRow = 0;
    for (let index = 0; index < segments.count; index++) {
      const rows = segments.rows[index] as number;
      const start = checkSegment(segments, index, limits) - rows;
      this.#checkBlocks(segments, index, start, limits);
      for (let row = 0; row < rows; row++) {
        const position = positions[firstRow + row];
        if (position !== start + row) {
          throw invalid(`row ${firstRow + row} has position ${position}, not ${start + row}`);
        }
      }
      firstRow += rows;
    }
    if (firstRow !== batch.tokens.length) {
      throw invalid(`segments of ${firstRow} rows for ${batch.tokens.length} tokens`);
    }
    if (segments.adapter) checkAdapters(segments, segments.adapter, limits);
  }

  /** Blocks may be shared between sequences, but not those that the step writes to. */
  #checkBlocks(segments: SegmentTable, index: number, firstWritten: number, limits: StepLimits): void {
    const first = segments.blockStart[index] as number;
    const end = segments.blockStart[index + 1] as number;
    const kvLength = segments.kvLength[index] as number;
    if ((end - first) * limits.blockPositions < kvLength) {
      throw invalid(
        `segment ${index} has ${end - first} blocks of ${limits.blockPositions} for ${kvLength} positions`,
      );
    }
    const written = first + Math.floor(firstWritten / limits.blockPositions);
    for (let at = first; at < end; at++) {
      const block = segments.blocks[at] ?? -1;
      if (block < 0 || block >= limits.blocks) throw invalid(`block ${block} of ${limits.blocks}`);
      if (at < written) continue;
      if (this.#writers[block] === this.#check) throw invalid(`block ${block} has two writers`);
      this.#writers[block] = this.#check;
    }
  }
}

function checkAdapters({ count }: SegmentTable, slots: Int32Array, { adapters }: StepLimits): void {
  for (let index = 0; index < count; index++) {
    const slot = slots[index] ?? Number.NaN;
    if (slot === baseModel || adapters?.has(slot)) continue;
    throw invalid(`segment ${index} runs adapter slot ${slot}, which holds none`);
  }
}

/** @returns the segment's KV length */
function checkSegment(segments: SegmentTable, index: number, limits: StepLimits): number {
  const rows = segments.rows[index] ?? 0;
  const kvLength = segments.kvLength[index] ?? 0;
  if (rows < 1) throw invalid(`a segment of ${rows} rows`);
  if (kvLength < rows || kvLength > limits.contextLength) {
    throw invalid(`a KV length of ${kvLength} with ${rows} rows and a context of ${limits.contextLength}`);
  }
  return kvLength;
}

function checkOutputs(
  { count, rows, wants, sampling }: OutputTable,
  tokens: number,
  givesHidden: boolean,
): void {
  let previous = -1;
  for (let index = 0; index < count; index++) {
    const row = rows[index] ?? -1;
    if (row <= previous || row >= tokens)
      throw invalid(`output row ${row} after ${previous} of ${tokens} rows`);
    previous = row;
    const wanted = wants[index] as number;
    if (wanted & want.hidden && !givesHidden) throw invalid(`output row ${row} wants a hidden state`);
    if ((wanted & (want.token | want.logits | want.hidden)) === 0)
      throw invalid(`output row ${row} wants nothing`);
    if (wanted & (want.token | want.probabilities)) checkSampling(sampling, index, wanted);
  }
}

function checkSampling(sampling: SamplingTable, index: number, wanted: number): void {
  const temperature = sampling.temperature[index] as number;
  const topP = sampling.topP[index] as number;
  const isGreedy = temperature === 0 && (wanted & want.probabilities) === 0;
  const isTemperature = temperature > 0 && temperature < Number.POSITIVE_INFINITY;
  const isRight = (isGreedy || isTemperature) && topP > 0 && topP <= 1;
  if (!isRight) throw invalid(`a temperature of ${temperature} with top-p ${topP}`);
}

function checkOperations({ count, kinds, from, to, positions }: KvOperations, limits: StepLimits): void {
  const { blocks, hostBlocks, blockPositions } = limits;
  for (let index = 0; index < count; index++) {
    const kind = kinds[index] as number;
    const source = from[index] ?? -1;
    const target = to[index] ?? -1;
    const sources = kind === kvOperation.fromHost ? hostBlocks : blocks;
    const targets = kind === kvOperation.toHost ? hostBlocks : blocks;
    const length = positions[index] as number;
    const isRight =
      source >= 0 &&
      source < sources &&
      (kind === kvOperation.release || (target >= 0 && target < targets)) &&
      (kind !== kvOperation.copy || (source !== target && length >= 0 && length <= blockPositions));
    if (!isRight) throw invalid(`KV operation ${kind} of block ${source} to ${target}, ${length} positions`);
  }
}
