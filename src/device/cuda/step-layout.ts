import { uniform } from '../../base/random.ts';
import type { RowEnds } from '../row-ends.ts';
import { baseModel, type SamplingTable } from '../step.ts';
import type { DevicePointer } from './driver.ts';
import { decodeTile, prefillRows } from './lower-attention.ts';
import type { Bucket, StepAddresses } from './lowering.ts';
import type { SamplingRows } from './sampling-rows.ts';
import { writePointer } from './sampling-states.ts';

/** One step's rows and sequences, as plain columns: what a {@link StepLayout} is filled from. */
export interface StepColumns {
  /** [T]; −1−r is what output row r of the step before sampled. */
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly outputRows: Int32Array;
  /** In a step some of whose rows want hidden states: which output rows get logits. Absent: all do. */
  readonly ends?: RowEnds | undefined;
  /** By sequence, in row order: rows, positions in its KV after the step, where its block table starts in {@link blocks}. */
  readonly segmentRows: Int32Array;
  readonly kvLengths: Int32Array;
  readonly blockStarts: Int32Array;
  readonly blocks: Int32Array;
  readonly segments: number;
  /** By sequence; absent where none has an adapter. */
  readonly adapters?: Int32Array | undefined;
  readonly sampling: SamplingColumns;
  /** Absent where no row has a state or log-probabilities. */
  readonly samplingRows?: SamplingRows | undefined;
}

/** How each output row's token is chosen; columns of [R]. */
export type SamplingColumns = Pick<
  SamplingTable,
  'temperature' | 'topK' | 'topP' | 'minP' | 'seed' | 'sequence' | 'position'
>;

/** Page-locked memory of an upload, as the types that lie in it. */
export interface UploadMemory {
  readonly words: Int32Array;
  readonly floats: Float32Array;
  readonly doubles: Float64Array;
}

/** Tokens less likely than e^−32 times the likeliest one are never drawn. */
const distanceMax = 32;
/** Room for rounding in min-p's logarithm, as on the reference device. */
const distanceSlack = 1e-11;

/** 32-bit words of one decode or prefill item. */
const itemWords = 4;
/** Arrays start at multiples of 4 words: kernels read items as 16 bytes. */
const align = (words: number) => Math.ceil(words / 4) * 4;

/** 32-bit words of `Row` in `sample.cu`. */
export const samplingWords = 16;

/** Where a step's arrays lie, in 32-bit words from the start of its upload: fixed by the bucket, block tables last. */
export class StepLayout {
  readonly bucket: Bucket;
  readonly tokens = 0;
  readonly positions: number;
  readonly kvPlaces: number;
  readonly tables: number;
  readonly outputRows: number;
  readonly logitRows: number;
  readonly logitBatchRows: number;
  readonly sampling: number;
  readonly decodeItems: number;
  readonly prefillCount: number;
  readonly prefillItems: number;
  readonly adapters: number;
  readonly blocks: number;

  constructor(bucket: Bucket) {
    this.bucket = bucket;
    const rows = align(bucket.rows);
    this.positions = rows;
    this.kvPlaces = rows * 2;
    this.tables = rows * 3;
    this.outputRows = rows * 4;
    this.logitRows = this.outputRows + align(bucket.outputRows);
    const picked = picksLogits(bucket) ? align(bucket.logitRows) : 0;
    this.logitBatchRows = this.logitRows + picked;
    this.sampling = this.logitBatchRows + picked;
    this.decodeItems = this.sampling + align(bucket.logitRows * samplingWords);
    this.prefillCount = this.decodeItems + bucket.decodeItems * itemWords;
    this.prefillItems = this.prefillCount + 4;
    this.adapters = this.prefillItems + bucket.prefillItems * itemWords;
    this.blocks = this.adapters + (bucket.hasAdapters ? rows : 0);
  }

  /** The arrays' addresses for an upload that lies at `base`. */
  addresses(base: DevicePointer, sampled: DevicePointer, arrivals: DevicePointer): StepAddresses {
    const at = (words: number) => base + words * 4;
    return {
      tokens: at(this.tokens),
      positions: at(this.positions),
      outputRows: at(this.outputRows),
      logitRows: at(this.logitRows),
      logitBatchRows: at(this.logitBatchRows),
      kvPlaces: at(this.kvPlaces),
      tables: at(this.tables),
      sampling: at(this.sampling),
      decodeItems: at(this.decodeItems),
      prefillItems: at(this.prefillItems),
      prefillCount: at(this.prefillCount),
      blocks: at(this.blocks),
      adapters: at(this.adapters),
      sampled,
      arrivals,
    };
  }

  /**
   * Writes a step, padding what the bucket has more of: padded rows read token 0, write into `sinkPlace`, and belong to no item.
   * @returns the words written
   */
  write(memory: UploadMemory, step: StepColumns, blockPositions: number, sinkPlace: number): number {
    const { words } = memory;
    const { rows, outputRows } = this.bucket;
    const count = step.tokens.length;
    words.set(step.tokens, this.tokens);
    words.fill(0, this.tokens + count, this.tokens + rows);
    words.set(step.positions, this.positions);
    words.fill(0, this.positions + count, this.positions + rows);
    words.fill(sinkPlace, this.kvPlaces + count, this.kvPlaces + rows);
    words.fill(-1, this.tables + count, this.tables + rows);
    words.set(step.outputRows, this.outputRows);
    words.fill(0, this.outputRows + step.outputRows.length, this.outputRows + outputRows);
    const places = this.#writeLogitRows(words, step);
    for (let place = 0; place < this.bucket.logitRows; place++) {
      this.#writeSampling(memory, step, place, places ? (places[place] ?? -1) : place);
    }
    this.#writeItems(words, step, blockPositions);
    if (this.bucket.hasAdapters) this.#writeAdapters(words, step);
    words.set(step.blocks, this.blocks);
    return this.blocks + step.blocks.length;
  }

  /** @returns which output row each row of logits is; nothing where they are the same */
  #writeLogitRows(words: Int32Array, { outputRows, ends }: StepColumns): Int32Array | undefined {
    if (!picksLogits(this.bucket) || !ends) return undefined;
    const { logitRows } = ends;
    words.fill(0, this.logitRows, this.logitBatchRows + this.bucket.logitRows);
    words.set(logitRows, this.logitRows);
    logitRows.forEach((row, place) => {
      words[this.logitBatchRows + place] = outputRows[row] as number;
    });
    return logitRows;
  }

  /** How the token of the output row `row` is chosen from the logits at `place`; −1, or a row beyond the step's, is padding. */
  #writeSampling(
    { words, floats, doubles }: UploadMemory,
    step: StepColumns,
    place: number,
    row: number,
  ): void {
    const { sampling, samplingRows } = step;
    const at = this.sampling + place * samplingWords;
    const isOne = row >= 0 && row < step.outputRows.length;
    words[at + 15] = row;
    if (samplingRows && isOne) {
      words[at + 5] = sampling.position[row] as number;
      writePointer(words, at + 8, samplingRows.states[row] as number);
      writePointer(words, at + 10, samplingRows.adjusted[row] as number);
      writePointer(words, at + 12, samplingRows.logprobs[row] as number);
      words[at + 14] = samplingRows.top;
    } else words.fill(0, at + 8, at + 14);
    const temperature = isOne ? (sampling.temperature[row] as number) : 0;
    words[at] = temperature > 0 ? 1 : 0;
    if (temperature === 0) return;
    const minP = sampling.minP[row] as number;
    floats[at + 1] = 1 / temperature;
    words[at + 2] = sampling.topK[row] as number;
    floats[at + 3] = sampling.topP[row] as number;
    floats[at + 4] = minP > 0 ? Math.min(distanceMax, -Math.log(minP) + distanceSlack) : distanceMax;
    const [seed, sequence] = [sampling.seed[row] as number, sampling.sequence[row] as number];
    doubles[at / 2 + 3] = uniform(seed, sequence, sampling.position[row] as number);
  }

  #writeAdapters(words: Int32Array, { segments, segmentRows, adapters }: StepColumns): void {
    let at = this.adapters;
    for (let segment = 0; segment < segments; segment++) {
      const end = at + (segmentRows[segment] as number);
      words.fill(adapters?.[segment] ?? baseModel, at, end);
      at = end;
    }
    words.fill(baseModel, at, this.adapters + this.bucket.rows);
  }

  #writeItems(words: Int32Array, step: StepColumns, blockPositions: number): void {
    let row = 0;
    let tilesBefore = 0;
    let decode = this.decodeItems;
    let prefill = this.prefillItems;
    for (let segment = 0; segment < step.segments; segment++) {
      const rows = step.segmentRows[segment] as number;
      const kvLength = step.kvLengths[segment] as number;
      const table = step.blockStarts[segment] as number;
      const first = kvLength - rows;
      for (let k = 0; k < rows; k++) {
        const position = first + k;
        const block = step.blocks[table + Math.floor(position / blockPositions)] as number;
        words[this.kvPlaces + row + k] = block * blockPositions + (position % blockPositions);
        words[this.tables + row + k] = table;
      }
      if (rows === 1) {
        words[decode] = row;
        words[decode + 1] = kvLength;
        words[decode + 2] = table;
        words[decode + 3] = tilesBefore;
        tilesBefore += Math.ceil(kvLength / decodeTile);
        decode += itemWords;
      } else {
        for (let k = 0; k < rows; k += prefillRows) {
          words[prefill] = row + k;
          words[prefill + 1] = Math.min(prefillRows, rows - k);
          words[prefill + 2] = first + k;
          words[prefill + 3] = table;
          prefill += itemWords;
        }
      }
      row += rows;
    }
    for (; decode < this.prefillCount; decode += itemWords) {
      words.fill(0, decode, decode + itemWords);
      words[decode + 3] = tilesBefore;
    }
    words[this.prefillCount] = (prefill - this.prefillItems) / itemWords;
  }
}

/** Whether a program makes logits of some of its output rows only, which the step names. */
export function picksLogits({ hasHidden, logitRows, outputRows }: Bucket): boolean {
  return hasHidden && logitRows > 0 && logitRows < outputRows;
}

/** What a step needs of a bucket. */
export function stepNeeds(step: StepColumns): Bucket {
  let decodeItems = 0;
  let prefillItems = 0;
  for (let segment = 0; segment < step.segments; segment++) {
    const rows = step.segmentRows[segment] as number;
    if (rows === 1) decodeItems++;
    else prefillItems += Math.ceil(rows / prefillRows);
  }
  const outputRows = step.outputRows.length;
  return {
    rows: step.tokens.length,
    outputRows,
    logitRows: step.ends ? step.ends.logitRows.length : outputRows,
    hasHidden: step.ends !== undefined,
    ...{ decodeItems, prefillItems },
    hasAdapters: step.adapters?.subarray(0, step.segments).some((slot) => slot !== baseModel) ?? false,
  };
}

/** The next of 1–8, then multiples of 8 to 64, of 32 to 512, of 128 to 2,048, then of 512. */
export function roundRows(rows: number): number {
  const step = rows <= 8 ? 1 : rows <= 64 ? 8 : rows <= 512 ? 32 : rows <= 2048 ? 128 : 512;
  return Math.ceil(rows / step) * step;
}

/** Coarser than decoding's: prompts come in all mixes, and a new bucket costs a plan. */
function roundMixedRows(rows: number): number {
  const step = rows <= 512 ? 64 : rows <= 1024 ? 128 : rows <= 2048 ? 256 : 1024;
  return Math.ceil(rows / step) * step;
}

/** Powers of two from 4, for item counts; 0 stays 0. */
function roundItems(count: number): number {
  return count === 0 ? 0 : 2 ** Math.max(2, Math.ceil(Math.log2(count)));
}

/** Powers of two from 8, for counts of output rows, at most `most`; 0 stays 0. */
function roundOutputs(count: number, most: number): number {
  return count === 0 ? 0 : Math.min(most, 2 ** Math.max(3, Math.ceil(Math.log2(count))));
}

/** The bucket that a step runs in: few distinct ones, each with a program of its own. */
export function bucketOf(needs: Bucket): Bucket {
  const { hasHidden, hasAdapters } = needs;
  const isDecode = needs.prefillItems === 0;
  const rows = isDecode ? roundRows(needs.rows) : roundMixedRows(needs.rows);
  // Pure decoding: every row is a sequence, and all or none is sampled.
  const all = isDecode && needs.outputRows > 0 ? rows : roundOutputs(needs.outputRows, rows);
  const isEach = needs.logitRows === needs.outputRows;
  return {
    rows,
    outputRows: all,
    logitRows: isEach ? all : roundOutputs(needs.logitRows, all),
    decodeItems: isDecode ? rows : roundItems(needs.decodeItems),
    prefillItems: roundItems(needs.prefillItems),
    ...{ hasHidden, hasAdapters },
  };
}

/** The buckets of steps in which up to so many sequences take a row each, all of them sampled. */
export function decodeBuckets(sequencesMax: number): Bucket[] {
  const buckets: Bucket[] = [];
  for (let rows = 1; rows <= sequencesMax; rows = (buckets.at(-1)?.rows ?? rows) + 1) {
    const needs = { rows, outputRows: rows, logitRows: rows, decodeItems: rows, prefillItems: 0 };
    buckets.push(bucketOf({ ...needs, hasHidden: false, hasAdapters: false }));
  }
  return buckets;
}

const noInts = new Int32Array(0);
const noDoubles = new Float64Array(0);

/** A step without rows: whatever bucket it is written into, all of it is padding. */
export const emptyStep: StepColumns = {
  ...{ tokens: noInts, positions: noInts, outputRows: noInts, segments: 0 },
  ...{ segmentRows: noInts, kvLengths: noInts, blockStarts: noInts, blocks: noInts },
  sampling: {
    ...{ temperature: noDoubles, topP: noDoubles, minP: noDoubles, seed: noDoubles },
    ...{ topK: noInts, sequence: noInts, position: noInts },
  },
};
