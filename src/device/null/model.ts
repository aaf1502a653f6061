import { assert, definite } from '../../base/errors.ts';
import { hash32 } from '../../base/random.ts';
import type {
  DeviceModel,
  DeviceModelOptions,
  DeviceModelSource,
  StepBatch,
  StepOutput,
  StepResult,
} from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { NullOptions } from './options.ts';
import { StepTimer } from './step-timer.ts';

const hashOfNothing = 0x2545f491;
const eosSalt = 1;
const tokenSalt = 2;
const candidateSalt = 3;

/** What a slot "holds": for each position a hash of all tokens up to it, in place of keys and values. */
interface NullSlot {
  hashes: Uint32Array;
  length: number;
}

/** A model without mathematics. It keeps each slot's history, so a wrong slot copy or position changes what it answers. */
export class NullModel implements DeviceModel {
  readonly kvBytesPerPosition: number;
  readonly weightBytes = 0;
  readonly #vocabularySize: number;
  readonly #contextLength: number;
  readonly #batchTokensMax: number;
  readonly #options: NullOptions;
  readonly #slots: NullSlot[];
  readonly #timer: StepTimer;
  readonly #eos: ReadonlySet<number>;

  constructor(source: DeviceModelSource, modelOptions: DeviceModelOptions, options: NullOptions) {
    this.#vocabularySize = source.vocabularySize;
    this.#contextLength = source.contextLength;
    this.#batchTokensMax = modelOptions.batchTokensMax;
    this.#options = options;
    this.#slots = Array.from({ length: modelOptions.slots }, () => ({
      hashes: new Uint32Array(0),
      length: 0,
    }));
    this.#timer = new StepTimer(options.stepMs, options.rowUs);
    this.#eos = new Set(options.eosTokens);
    const elements = source.kv.layers.reduce(
      (sum, layer) => sum + layer.keyElements + layer.valueElements,
      0,
    );
    this.kvBytesPerPosition = elements * (modelOptions.kvDtype === 'f16' ? 2 : 4);
    for (const token of [...options.eosTokens, ...options.script]) {
      if (token >= source.vocabularySize) {
        throw new DeviceError(
          'DEVICE_OPTION_INVALID',
          `null device: token ${token} is not below the vocabulary's size ${source.vocabularySize}`,
        );
      }
    }
    if (this.#eos.size >= source.vocabularySize) {
      throw new DeviceError('DEVICE_OPTION_INVALID', 'null device: eos-tokens leaves no other token to emit');
    }
  }

  run(batch: StepBatch): StepResult | Promise<StepResult> {
    this.#write(batch);
    const output = batch.want === 'greedy' ? this.#greedy(batch) : this.#candidates(batch);
    return this.#timer.finish(batch.tokens.length, output);
  }

  copySlot(from: number, to: number, length: number): void {
    const source = this.#slot(from);
    const target = this.#slot(to);
    if (length > source.length) {
      throw new DeviceError(
        'DEVICE_BATCH_INVALID',
        `slot ${from} holds ${source.length} positions, not the ${length} to copy`,
      );
    }
    this.#grow(target, length);
    target.hashes.set(source.hashes.subarray(0, length));
    target.length = length;
  }

  releaseSlot(slot: number): void {
    const released = this.#slot(slot);
    released.hashes = new Uint32Array(0);
    released.length = 0;
  }

  close(): void {
    this.#slots.length = 0;
  }

  #slot(slot: number): NullSlot {
    return definite(this.#slots[slot], `slot ${slot}`);
  }

  #grow(slot: NullSlot, length: number): void {
    if (slot.hashes.length >= length) return;
    const hashes = new Uint32Array(
      Math.min(this.#contextLength, Math.max(64, length, slot.hashes.length * 2)),
    );
    hashes.set(slot.hashes.subarray(0, slot.length));
    slot.hashes = hashes;
  }

  /** Checks the batch as strictly as a real device must, and appends every row to its slot's history. */
  #write(batch: StepBatch): void {
    const { tokens, positions, segments } = batch;
    assert(tokens.length <= this.#batchTokensMax, `${tokens.length} rows are over ${this.#batchTokensMax}`);
    const seen = new Set<number>();
    let row = 0;
    for (const segment of segments) {
      const slot = this.#slot(segment.slot);
      const first = segment.kvLength - segment.rows;
      assert(!seen.has(segment.slot), `slot ${segment.slot} is in one batch twice`);
      assert(
        segment.rows > 0 && first >= 0 && first <= slot.length,
        `slot ${segment.slot} has a gap at ${first}`,
      );
      assert(segment.kvLength <= this.#contextLength, `position ${segment.kvLength} is outside the context`);
      seen.add(segment.slot);
      this.#grow(slot, segment.kvLength);
      let hash = first === 0 ? hashOfNothing : definite(slot.hashes[first - 1], 'hash');
      for (let position = first; position < segment.kvLength; position++, row++) {
        const token = tokens[row] ?? -1;
        assert(positions[row] === position, `row ${row} is at ${positions[row]}, not ${position}`);
        assert(token >= 0 && token < this.#vocabularySize, `token ${token} is not in the vocabulary`);
        hash = hash32(hash, token);
        slot.hashes[position] = hash;
      }
      slot.length = segment.kvLength;
    }
    assert(row === tokens.length, 'segments do not cover the rows');
  }

  #greedy(batch: StepBatch): StepOutput {
    const tokens = new Int32Array(batch.outputRows.length);
    this.#eachOutput(batch, (index, hash, token, position) => {
      tokens[index] = this.#pick(hash, token, position);
    });
    return { kind: 'tokens', tokens };
  }

  #candidates(batch: StepBatch): StepOutput {
    const perRow = Math.min(this.#options.candidates, this.#vocabularySize - this.#eos.size);
    const ids = new Int32Array(batch.outputRows.length * perRow);
    const logits = new Float32Array(ids.length);
    this.#eachOutput(batch, (index, hash, token, position) => {
      let id = this.#pick(hash, token, position);
      for (let i = 0; i < perRow; i++) {
        ids[index * perRow + i] = id;
        // The pick is the argmax; the others lie up to five below it, each at a place of its own.
        logits[index * perRow + i] = i === 0 ? 5 : (hash32(hash, i, candidateSalt) / 2 ** 32) * 4.99;
        do id = (id + 1) % this.#vocabularySize;
        while (this.#eos.has(id));
      }
    });
    return { kind: 'candidates', perRow, ids, logits };
  }

  #eachOutput(
    batch: StepBatch,
    visit: (index: number, hash: number, token: number, position: number) => void,
  ): void {
    let index = 0;
    let row = 0;
    for (const segment of batch.segments) {
      const slot = this.#slot(segment.slot);
      const end = row + segment.rows;
      for (; index < batch.outputRows.length; index++) {
        const outputRow = definite(batch.outputRows[index], 'output row');
        if (outputRow >= end) break;
        const position = segment.kvLength - (end - outputRow);
        visit(
          index,
          definite(slot.hashes[position], 'hash'),
          definite(batch.tokens[outputRow], 'token'),
          position,
        );
      }
      row = end;
    }
    assert(index === batch.outputRows.length, 'an output row lies outside the batch');
  }

  #pick(hash: number, token: number, position: number): number {
    const { mode, script, eosTokens, eosChance } = this.#options;
    if (mode === 'echo') return token;
    if (mode === 'script') return definite(script[(position + 1) % script.length], 'script token');
    if (eosChance > 0 && hash32(hash, eosSalt) / 2 ** 32 < eosChance)
      return definite(eosTokens[0], 'eos token');
    let picked = hash32(hash, tokenSalt) % this.#vocabularySize;
    while (this.#eos.has(picked)) picked = (picked + 1) % this.#vocabularySize;
    return picked;
  }
}
