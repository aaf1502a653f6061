import { assert } from '../../base/errors.ts';
import { baseModel, noKvOperations, type StepBatch, samplingFeature, want } from '../../device/step.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import type { PlannedRows } from '../plan/scheduler.ts';
import { isPlainDraw, isPlainGreedy } from '../sampling/row-sampling.ts';
import type { Sequence } from '../sequences/sequence.ts';
import type { DraftConsumer, RowConsumer } from './row-consumer.ts';
import { SamplingColumns } from './sampling-columns.ts';

/** A launched step, until it is collected: which rows are whose. Reused from step to step. */
export class LaunchedStep {
  serial = -1;
  readonly sequences: Sequence[] = [];
  readonly rows: number[] = [];
  /** By sequence: how many of its rows are drafts, the last ones. */
  readonly drafts: number[] = [];
  /** Whether there are any. */
  hasDrafts = false;
  /** By output row. */
  readonly consumers: RowConsumer[] = [];
  readonly wants: Uint8Array;
  /** By sequence: what its newest token in flight was before this step. */
  readonly outputRowsBefore: number[] = [];
  readonly outputSerialsBefore: number[] = [];
  /** Sequences whose sampling state this step fills. */
  readonly loaded: Sequence[] = [];

  constructor(rowsMax: number) {
    this.wants = new Uint8Array(rowsMax);
  }
}

/** What the assembler needs to know of the engine. */
export interface AssemblerOptions {
  batchTokensMax: number;
  sequencesMax: number;
  samplingFeatures: number;
  /** Takes the row of the prompt's token at `position`, which asked for something; see `consumers/`. */
  promptConsumer(sequence: Sequence, position: number): RowConsumer;
  /** Takes the output rows of a sequence's last known token and of the drafts behind it. */
  draftConsumer(sequence: Sequence, drafts: readonly number[]): DraftConsumer;
}

/**
 * Writes planned rows into a device's batch. There is one set of columns: a device reads them before `launch` returns. A decode row costs
 * a few writes, whatever it asks for.
 */
export class BatchAssembler {
  readonly #options: AssemblerOptions;
  readonly #cache: KvCache;
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #outputRows: Int32Array;
  readonly #wants: Uint8Array;
  readonly #sampling: SamplingColumns;
  readonly #segmentRows: Int32Array;
  readonly #kvLength: Int32Array;
  readonly #blockStart: Int32Array;
  readonly #adapter: Int32Array;
  #blocks = new Int32Array(1024);
  #outputs = 0;

  constructor(options: AssemblerOptions, cache: KvCache) {
    this.#options = options;
    this.#cache = cache;
    const { batchTokensMax, sequencesMax } = options;
    this.#tokens = new Int32Array(batchTokensMax);
    this.#positions = new Int32Array(batchTokensMax);
    this.#outputRows = new Int32Array(batchTokensMax);
    this.#wants = new Uint8Array(batchTokensMax);
    this.#sampling = new SamplingColumns(batchTokensMax);
    this.#segmentRows = new Int32Array(sequencesMax);
    this.#kvLength = new Int32Array(sequencesMax);
    this.#blockStart = new Int32Array(sequencesMax + 1);
    this.#adapter = new Int32Array(sequencesMax);
  }

  /** Assembles the step and marks its sequences as launched; {@link takeBack} undoes that. */
  assemble(planned: PlannedRows<Sequence>, step: LaunchedStep, serial: number): StepBatch {
    step.serial = serial;
    step.sequences.length = 0;
    step.rows.length = 0;
    step.drafts.length = 0;
    step.hasDrafts = false;
    step.consumers.length = 0;
    step.outputRowsBefore.length = 0;
    step.outputSerialsBefore.length = 0;
    step.loaded.length = 0;
    this.#sampling.clear();
    this.#outputs = 0;
    let row = 0;
    let block = 0;
    let usesAdapters = false;
    for (let index = 0; index < planned.sequences.length; index++) {
      const sequence = planned.sequences[index] as Sequence;
      const rows = planned.rows[index] as number;
      const kvLength = sequence.launched + rows;
      this.#segmentRows[index] = rows;
      this.#kvLength[index] = kvLength;
      this.#blockStart[index] = block;
      const { adapterSlot } = sequence.owner;
      this.#adapter[index] = adapterSlot;
      if (adapterSlot !== baseModel) usesAdapters = true;
      step.outputRowsBefore.push(sequence.outputRow);
      step.outputSerialsBefore.push(sequence.outputSerial);
      block += this.#placeBlocks(sequence, kvLength, block);
      step.drafts.push(this.#writeRows(sequence, kvLength, row, step));
      row += rows;
      sequence.launched = kvLength;
      sequence.inFlight++;
      step.sequences.push(sequence);
      step.rows.push(rows);
    }
    const count = planned.sequences.length;
    this.#blockStart[count] = block;
    step.wants.set(this.#wants.subarray(0, this.#outputs));
    return {
      serial,
      tokens: this.#tokens.subarray(0, row),
      positions: this.#positions.subarray(0, row),
      segments: {
        count,
        rows: this.#segmentRows,
        kvLength: this.#kvLength,
        blockStart: this.#blockStart,
        blocks: this.#blocks,
        ...(usesAdapters && { adapter: this.#adapter }),
      },
      outputs: {
        count: this.#outputs,
        rows: this.#outputRows,
        wants: this.#wants,
        sampling: this.#sampling,
      },
      kv: this.#cache.hasOperations ? this.#cache.takeOperations() : noKvOperations,
    };
  }

  /** A launch failed and no row ran: everything is as it was before it was assembled. */
  takeBack(step: LaunchedStep): void {
    for (const [index, sequence] of step.sequences.entries()) {
      sequence.launched -= step.rows[index] as number;
      sequence.inFlight--;
      if (sequence.outputSerial !== step.serial) continue;
      sequence.tokensInFlight--;
      sequence.outputRow = step.outputRowsBefore[index] as number;
      sequence.outputSerial = step.outputSerialsBefore[index] as number;
    }
    for (const sequence of step.loaded) sequence.needsStateLoad = true;
  }

  #placeBlocks(sequence: Sequence, kvLength: number, at: number): number {
    const { place } = sequence;
    assert(place, 'a planned sequence has a place in the cache');
    const blocksMax = at + Math.ceil(kvLength / this.#cache.chunkPositions) + 1;
    if (this.#blocks.length < blocksMax) {
      const grown = new Int32Array(blocksMax * 2);
      grown.set(this.#blocks);
      this.#blocks = grown;
    }
    return this.#cache.writeBlocks(place, kvLength, this.#blocks, at);
  }

  /** @returns how many of the rows are drafts */
  #writeRows(sequence: Sequence, kvLength: number, firstRow: number, step: LaunchedStep): number {
    const { launched, length } = sequence;
    const knownEnd = Math.min(kvLength, length);
    if (launched < knownEnd) sequence.copyTokens(launched, knownEnd, this.#tokens, firstRow);
    for (let position = launched, row = firstRow; position < kvLength; position++, row++) {
      this.#positions[row] = position;
    }
    if (sequence.owner.promptWants !== 0) this.#addPromptRows(sequence, kvLength, firstRow, step);
    const drafts = Math.max(0, kvLength - sequence.positionsKnown);
    if (drafts > 0) {
      this.#addDraftRows(sequence, drafts, firstRow + length - launched, step);
      return drafts;
    }
    if (kvLength > length) {
      assert(
        kvLength === length + 1 && sequence.outputSerial === step.serial - 1,
        'a token of the last step',
      );
      this.#tokens[firstRow + length - launched] = -1 - sequence.outputRow;
    }
    if (kvLength === sequence.positionsKnown) {
      const row = firstRow + kvLength - launched - 1;
      if (sequence.owner.isPromptOnly) this.#addPromptEnd(sequence, row, step);
      else this.#addNextToken(sequence, row, step);
    }
    return 0;
  }

  /** The drafts behind a sequence's last token, which all are known, and an output row for it and for each of them. */
  #addDraftRows(sequence: Sequence, count: number, firstRow: number, step: LaunchedStep): void {
    assert(sequence.tokensInFlight === 0 && count <= sequence.drafts.length, 'drafts behind a known token');
    const drafts = sequence.drafts.slice(0, count);
    const consumer = this.#options.draftConsumer(sequence, drafts);
    this.#tokens.set(drafts, firstRow);
    const { length } = sequence;
    let last = -1;
    for (let index = 0; index <= count; index++) {
      last = this.#addTokenRow(sequence, firstRow + index - 1, length + index, step, consumer);
      step.consumers[last] = consumer;
    }
    step.hasDrafts = true;
    sequence.isHostChoosing = true;
    this.#noteToken(sequence, last, step);
  }

  #addNextToken(sequence: Sequence, row: number, step: LaunchedStep): void {
    const { consumer } = sequence;
    assert(consumer, 'a running sequence has a consumer');
    sequence.isHostChoosing = false;
    const output = this.#addTokenRow(sequence, row, sequence.positionsKnown, step, undefined);
    step.consumers[output] = consumer;
    this.#noteToken(sequence, output, step);
  }

  #noteToken(sequence: Sequence, output: number, step: LaunchedStep): void {
    sequence.tokensInFlight++;
    sequence.outputRow = output;
    sequence.outputSerial = step.serial;
  }

  /** The output row of a prompt's last token, which no token follows. */
  #addPromptEnd(sequence: Sequence, row: number, step: LaunchedStep): void {
    const output = this.#addRow(row, sequence.owner.endWants);
    this.#sampling.setPlain(output, sequence.length);
    step.consumers[output] = this.#options.promptConsumer(sequence, sequence.length - 1);
  }

  /** Output rows of the prompt's tokens but the last: their log-probabilities, logits or hidden states. */
  #addPromptRows(sequence: Sequence, kvLength: number, firstRow: number, step: LaunchedStep): void {
    const { owner, launched, promptLength } = sequence;
    if (!owner.needsPromptRows) return;
    for (let position = launched; position < Math.min(kvLength, promptLength - 1); position++) {
      const output = this.#addRow(firstRow + position - launched, owner.promptWants);
      this.#sampling.setPlain(output, position + 1);
      step.consumers[output] = this.#options.promptConsumer(sequence, position);
    }
  }

  /**
   * The output row that gives the sequence's token at `position`.
   * @param verifier of the row, if it is one of several of the sequence: a device that keeps penalties' counts would count each of their tokens
   */
  #addTokenRow(
    sequence: Sequence,
    row: number,
    position: number,
    step: LaunchedStep,
    verifier: DraftConsumer | undefined,
  ): number {
    const { sampling } = sequence.owner;
    const hidden = sequence.showsHidden ? want.hidden : 0;
    const generated = position - sequence.promptLength;
    const lacking = sampling.features & ~this.#options.samplingFeatures;
    const needsLogits =
      verifier?.needsLogits || sequence.owner.request.beams !== undefined || sequence.showsLogits;
    const isStateful = (sampling.features & samplingFeature.state) !== 0;
    if (!needsLogits && lacking === 0 && !(verifier && isStateful)) {
      const logprobs = sampling.logprobs >= 0 ? want.logprobs : 0;
      const output = this.#addRow(row, want.token | logprobs | hidden);
      if (sampling.features === 0) this.#sampling.setPlain(output, position);
      else {
        if (sequence.needsStateLoad) step.loaded.push(sequence);
        this.#sampling.set(output, sequence, position);
      }
      return output;
    }
    if (!needsLogits && isPlainGreedy(sampling, generated)) {
      const output = this.#addRow(row, want.token | hidden);
      this.#sampling.setPlain(output, position);
      return output;
    }
    sequence.isHostChoosing = true;
    // What the host chooses, the device's counts do not know of.
    if (sequence.samplingState >= 0) sequence.needsStateLoad = true;
    const draws = !needsLogits && isPlainDraw(sampling, generated);
    const masked = sequence.guide ? want.masked : 0;
    const output = this.#addRow(row, want.logits | masked | hidden | (draws ? want.probabilities : 0));
    if (draws) this.#sampling.setTemperature(output, sequence, position);
    else this.#sampling.setPlain(output, position);
    return output;
  }

  #addRow(row: number, wants: number): number {
    const output = this.#outputs++;
    this.#outputRows[output] = row;
    this.#wants[output] = wants;
    return output;
  }
}
