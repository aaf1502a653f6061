import assert from 'node:assert/strict';
import type { AdapterSlots } from '../../src/device/adapters.ts';
import type { DeviceModel, KvPoolFacts } from '../../src/device/device.ts';
import {
  type KvOperations,
  kvOperation,
  noTokenPossible,
  type StepBatch,
  type StepResult,
} from '../../src/device/step.ts';

/** Limits an engine promised; the audit fails a step that breaks one. */
export interface AuditLimits {
  batchTokensMax: number;
  sequencesMax: number;
}

/** One sequence's part of an audited step. */
export interface AuditedSegment {
  rows: number;
  kvLength: number;
  blocks: readonly number[];
  /** Everything in the sequence's KV after the step. */
  text: readonly number[];
}

/** A step as it went to the device, with the tokens that it took from the step before in their places. */
export interface AuditedBatch {
  serial: number;
  tokens: readonly number[];
  segments: readonly AuditedSegment[];
  outputRows: readonly number[];
  wants: readonly number[];
}

/** A device model that checks every batch against the engine's promises, and remembers what each block holds. */
export class AuditedModel implements DeviceModel {
  /** By block; undefined where it holds nothing. */
  readonly histories = new Map<number, number[]>();
  readonly #hostHistories = new Map<number, number[]>();
  readonly batches: AuditedBatch[] = [];
  readonly #inner: DeviceModel;
  readonly #limits: AuditLimits;
  readonly #results: StepResult[] = [];
  #sampled: Int32Array = new Int32Array(0);
  #serial = -1;
  /** Called with each batch that has rows. */
  onBatch: ((batch: AuditedBatch) => void) | undefined;
  /** Thrown by a launch, if it returns anything. */
  failure: ((batch: StepBatch) => unknown) | undefined;
  copies = 0;
  /** Most steps that were in flight at once. */
  inFlightSeen = 0;
  /** Answers in a later turn of the event loop, as an asynchronous device does. */
  isDeferred = false;

  /** @param inner answers at once, so that what it sampled is known */
  constructor(inner: DeviceModel, limits: AuditLimits) {
    this.#inner = inner;
    this.#limits = limits;
  }

  get kv(): KvPoolFacts {
    return this.#inner.kv;
  }

  get weightBytes(): number {
    return this.#inner.weightBytes;
  }

  get inFlightStepsMax(): number {
    return this.#inner.inFlightStepsMax;
  }

  get adapters(): AdapterSlots | undefined {
    return this.#inner.adapters;
  }

  get hiddenWidth(): number {
    return this.#inner.hiddenWidth ?? 0;
  }

  get samplingFeatures(): number {
    return this.#inner.samplingFeatures;
  }

  launch(batch: StepBatch): void {
    const failure = this.failure?.(batch);
    if (failure !== undefined) throw failure;
    assert.equal(batch.serial, this.#serial + 1, 'serial numbers count up');
    this.#serial = batch.serial;
    this.#operate(batch.kv);
    if (batch.tokens.length > 0) {
      const audited = this.#check(batch);
      this.batches.push(audited);
      this.onBatch?.(audited);
    }
    this.#inner.launch(batch);
    const result = this.#inner.collect();
    assert.ok(!(result instanceof Promise), 'the audited device answers at once');
    this.#sampled = result.output.tokens;
    this.#results.push(result);
    this.inFlightSeen = Math.max(this.inFlightSeen, this.#results.length);
    assert.ok(this.#results.length <= this.inFlightStepsMax, 'no more steps in flight than agreed');
  }

  collect(): StepResult | Promise<StepResult> {
    const result = this.#results.shift();
    assert.ok(result, 'a launched step to collect');
    return this.isDeferred ? new Promise((resolve) => setImmediate(() => resolve(result))) : result;
  }

  close(): void {
    this.#inner.close();
  }

  #operate({ count, kinds, from, to, positions }: KvOperations): void {
    for (let index = 0; index < count; index++) {
      const [kind, source, target] = [kinds[index]!, from[index]!, to[index]!];
      const length = positions[index]!;
      const held = this.histories.get(source) ?? [];
      if (kind === kvOperation.release) this.histories.delete(source);
      else if (kind === kvOperation.copy) {
        this.copies++;
        assert.ok(source !== target && length <= held.length, `copy of ${length} from block ${source}`);
        this.histories.set(target, held.slice(0, length));
      } else if (kind === kvOperation.toHost) {
        assert.equal(held.length, this.kv.blockPositions, 'only full blocks move to the host');
        this.#hostHistories.set(target, [...held]);
      } else {
        const hosted = this.#hostHistories.get(source);
        assert.ok(hosted, `host block ${source} holds something`);
        this.histories.set(target, [...hosted]);
      }
    }
  }

  #check(batch: StepBatch): AuditedBatch {
    const { outputs, positions } = batch;
    const resolve = (token: number) => (token < 0 ? this.#sampled[-1 - token]! : token);
    const tokens = Array.from(batch.tokens, resolve).map((token) => (token === noTokenPossible ? 0 : token));
    assert.ok(
      tokens.every((token) => token >= 0),
      'a token that the last step sampled',
    );
    assert.ok(tokens.length <= this.#limits.batchTokensMax, 'the token budget is kept');
    assert.ok(batch.segments.count <= this.#limits.sequencesMax, 'no more sequences than allowed');
    const outputRows = [...outputs.rows.subarray(0, outputs.count)];
    assert.ok(outputRows.every((row, index) => row < tokens.length && row > (outputRows[index - 1] ?? -1)));
    const segments = this.#writeSegments(batch, tokens, positions);
    const wants = [...outputs.wants.subarray(0, outputs.count)];
    return { serial: batch.serial, tokens, segments, outputRows, wants };
  }

  #writeSegments({ segments }: StepBatch, tokens: number[], positions: Int32Array): AuditedSegment[] {
    const { blockPositions } = this.kv;
    const audited: (AuditedSegment & { text: number[] })[] = [];
    const writers = new Set<number>();
    const readers: [index: number, block: number][] = [];
    let row = 0;
    for (let index = 0; index < segments.count; index++) {
      const rows = segments.rows[index]!;
      const kvLength = segments.kvLength[index]!;
      const blocks = [
        ...segments.blocks.subarray(segments.blockStart[index], segments.blockStart[index + 1]),
      ];
      const start = kvLength - rows;
      assert.ok(blocks.length * blockPositions >= kvLength, 'a block for every position');
      for (const [at, block] of blocks.entries()) {
        const isWritten = (at + 1) * blockPositions > start;
        if (isWritten) {
          assert.ok(!writers.has(block), `block ${block} has one writer`);
          writers.add(block);
        } else readers.push([index, block]);
      }
      for (let position = start; position < kvLength; position++, row++) {
        assert.equal(positions[row], position);
        const block = blocks[Math.floor(position / blockPositions)]!;
        const place = position % blockPositions;
        const history = this.histories.get(block) ?? [];
        assert.ok(history.length >= place, `block ${block} has no gap at ${place}`);
        history.length = place;
        history.push(tokens[row]!);
        this.histories.set(block, history);
      }
      const text = blocks.flatMap((block) => this.histories.get(block) ?? []).slice(0, kvLength);
      assert.equal(text.length, kvLength, 'everything before the step is there');
      audited.push({ rows, kvLength, blocks, text });
    }
    assert.equal(row, tokens.length);
    for (const [index, block] of readers) {
      assert.ok(!writers.has(block), `block ${block} is read by sequence ${index} and written by another`);
    }
    return audited;
  }
}
