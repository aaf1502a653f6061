import { noKvOperations, type StepBatch, samplingFeature, want } from '../../device/step.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import { bansStops, isPlainDraw } from '../sampling/row-sampling.ts';
import { SamplingColumns } from '../step/sampling-columns.ts';
import type { DraftedText } from './drafted-text.ts';

/** What a draft model's steps are made with. */
export interface DraftBatchOptions {
  cache: KvCache;
  batchTokensMax: number;
  /** Bits of `samplingFeature`. */
  samplingFeatures: number;
  /** Columns of the hidden states that rows start from, and give; absent for a model of its own. */
  hiddenWidth?: number | undefined;
}

/** A step of the draft model. */
export interface DraftStep {
  batch: StepBatch;
  /** By output row: whose next draft it gives. */
  texts: DraftedText[];
  /** By text in the step: whose rows, and how many. */
  rows: [text: DraftedText, rows: number][];
}

/** Writes draft models' steps: for each text what is missing before its next draft, as far as the step's budget goes. */
export class DraftBatches {
  readonly #options: DraftBatchOptions;
  readonly #sampling: SamplingColumns;
  #serial = 0;

  constructor(options: DraftBatchOptions) {
    this.#options = options;
    this.#sampling = new SamplingColumns(options.batchTokensMax);
  }

  /** @param open texts that want another draft; those with more rows first, so that there are fewer mixes of row counts */
  next(open: readonly DraftedText[]): DraftStep {
    const { cache, hiddenWidth } = this.#options;
    const hidden = hiddenWidth ? want.hidden : 0;
    const tokens: number[] = [];
    const positions: number[] = [];
    const states: Float32Array[] = [];
    const columns = {
      rows: [] as number[],
      kvLength: [] as number[],
      blockStart: [0],
      blocks: [] as number[],
    };
    const step: Omit<DraftStep, 'batch'> = { texts: [], rows: [] };
    const outputs = { rows: [] as number[], wants: [] as number[] };
    const order = open.toSorted((a, b) => b.length - b.computed - (a.length - a.computed));
    for (const text of order) {
      const rows = Math.min(text.length - text.computed, this.#options.batchTokensMax - tokens.length);
      if (rows === 0) break;
      const kvLength = text.computed + rows;
      for (let position = text.computed; position < kvLength; position++) {
        tokens.push(text.tokenAt(position));
        positions.push(position);
        if (text.hiddenAt) states.push(text.hiddenAt(position));
      }
      columns.rows.push(rows);
      columns.kvLength.push(kvLength);
      columns.blocks.push(...blocksOf(cache, text, kvLength));
      columns.blockStart.push(columns.blocks.length);
      step.rows.push([text, rows]);
      if (kvLength < text.length) continue;
      outputs.wants.push(this.#want(text, outputs.rows.length) | hidden);
      outputs.rows.push(tokens.length - 1);
      step.texts.push(text);
    }
    const batch: StepBatch = {
      serial: this.#serial++,
      tokens: Int32Array.from(tokens),
      positions: Int32Array.from(positions),
      segments: {
        count: columns.rows.length,
        rows: Int32Array.from(columns.rows),
        kvLength: Int32Array.from(columns.kvLength),
        blockStart: Int32Array.from(columns.blockStart),
        blocks: Int32Array.from(columns.blocks),
      },
      outputs: {
        count: outputs.rows.length,
        rows: Int32Array.from(outputs.rows),
        wants: Uint8Array.from(outputs.wants),
        sampling: this.#sampling,
      },
      kv: cache.hasOperations ? cache.takeOperations() : noKvOperations,
      ...(hiddenWidth && { hidden: joined(states, hiddenWidth) }),
    };
    return { ...step, batch };
  }

  /** What the text's output row gives: a token where the device can choose it, else logits. Penalties and bias are left to the host. */
  #want({ sequence, nextPosition }: DraftedText, output: number): number {
    const { sampling } = sequence.owner;
    const generated = nextPosition - sequence.promptLength;
    const isPlain = !sampling.changesLogits && !sampling.needsHistory && !bansStops(sampling, generated);
    if (sampling.isGreedy && isPlain) {
      this.#sampling.setPlain(output, nextPosition);
      return want.token;
    }
    if (isPlain && sequence.samplingState < 0 && this.#options.samplingFeatures & samplingFeature.draw) {
      this.#sampling.set(output, sequence, nextPosition);
      return want.token;
    }
    if (!isPlainDraw(sampling, generated)) {
      this.#sampling.setPlain(output, nextPosition);
      return want.logits;
    }
    this.#sampling.setTemperature(output, sequence, nextPosition);
    return want.logits | want.probabilities;
  }
}

function joined(states: readonly Float32Array[], width: number): Float32Array {
  const all = new Float32Array(states.length * width);
  for (const [row, state] of states.entries()) all.set(state, row * width);
  return all;
}

function blocksOf(cache: KvCache, { place }: DraftedText, kvLength: number): Int32Array {
  const blocks = new Int32Array(Math.ceil(kvLength / cache.chunkPositions) + 1);
  return blocks.subarray(0, cache.writeBlocks(place, kvLength, blocks, 0));
}
