import assert from 'node:assert/strict';
import type { DeviceModel, StepBatch, StepResult } from '../../src/device/device.ts';

/** Limits an engine promised; the audit fails a step that breaks one. */
export interface AuditLimits {
  slots: number;
  batchTokensMax: number;
  sequencesMax: number;
}

/** A device model that checks every batch against the engine's promises, and remembers what each slot holds. */
export class AuditedModel implements DeviceModel {
  readonly histories = new Map<number, number[]>();
  readonly batches: StepBatch[] = [];
  readonly #inner: DeviceModel;
  readonly #limits: AuditLimits;
  /** Called with each batch and the slots' contents after it. */
  onBatch: ((batch: StepBatch) => void) | undefined;
  /** Thrown by the next run, once. */
  failure: unknown;
  copies = 0;
  /** Answers in a later turn of the event loop, as an asynchronous device does. */
  isDeferred = false;

  constructor(inner: DeviceModel, limits: AuditLimits) {
    this.#inner = inner;
    this.#limits = limits;
  }

  get kvBytesPerPosition(): number {
    return this.#inner.kvBytesPerPosition;
  }

  get weightBytes(): number {
    return this.#inner.weightBytes;
  }

  run(batch: StepBatch): StepResult | Promise<StepResult> {
    if (this.failure !== undefined) {
      const failure = this.failure;
      this.failure = undefined;
      throw failure;
    }
    this.#check(batch);
    this.batches.push({
      ...batch,
      tokens: batch.tokens.slice(),
      positions: batch.positions.slice(),
      outputRows: batch.outputRows.slice(),
    });
    this.onBatch?.(batch);
    const result = this.#inner.run(batch);
    return this.isDeferred ? new Promise((resolve) => setImmediate(() => resolve(result))) : result;
  }

  copySlot(from: number, to: number, length: number): void {
    this.copies++;
    const source = this.histories.get(from) ?? [];
    assert.ok(from !== to && length <= source.length, `copy of ${length} from slot ${from}`);
    this.histories.set(to, source.slice(0, length));
    this.#inner.copySlot(from, to, length);
  }

  releaseSlot(slot: number): void {
    this.histories.delete(slot);
    this.#inner.releaseSlot(slot);
  }

  close(): void {
    this.#inner.close();
  }

  #check({ tokens, positions, segments, outputRows }: StepBatch): void {
    assert.ok(tokens.length > 0 && tokens.length <= this.#limits.batchTokensMax, 'the token budget is kept');
    assert.ok(segments.length <= this.#limits.sequencesMax, 'no more sequences than allowed');
    assert.equal(new Set(segments.map(({ slot }) => slot)).size, segments.length, 'one writer a slot');
    assert.ok(outputRows.every((row, index) => row < tokens.length && row > (outputRows[index - 1] ?? -1)));
    let row = 0;
    for (const { slot, rows, kvLength } of segments) {
      assert.ok(slot >= 0 && slot < this.#limits.slots);
      const history = (this.histories.get(slot) ?? []).slice(0, kvLength - rows);
      assert.equal(history.length, kvLength - rows, `slot ${slot} has no gap`);
      for (let i = 0; i < rows; i++, row++) {
        assert.equal(positions[row], kvLength - rows + i);
        history.push(tokens[row]!);
      }
      this.histories.set(slot, history);
    }
    assert.equal(row, tokens.length);
  }
}
