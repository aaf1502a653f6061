import { assert, definite } from '../../base/errors.ts';
import { hash32 } from '../../base/random.ts';
import { AdapterTable } from '../adapters.ts';
import { StepChecker } from '../check-step.ts';
import type { DeviceModel, DeviceModelOptions, DeviceModelSource, KvPoolFacts } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { handedOn } from '../handed-on.ts';
import { ReferenceSampler, type SampledRow } from '../reference/sampling.ts';
import { SampledTokens } from '../sampled-tokens.ts';
import {
  baseModel,
  hostChooses,
  type OutputTable,
  type StepBatch,
  type StepOutput,
  type StepResult,
  samplingFeature,
  want,
} from '../step.ts';
import { KvHistory } from './kv-history.ts';
import type { NullOptions } from './options.ts';
import { StepTimer } from './step-timer.ts';

const hashOfNothing = 0x2545f491;
const eosSalt = 1;
const tokenSalt = 2;
const candidateSalt = 3;
const hiddenSalt = 4;

/** Below what is ever drawn beside a candidate. */
const unlikely = -40;

const choices = samplingFeature.draw | samplingFeature.state;
const featuresOf: Readonly<Record<NullOptions['sampling'], number>> = {
  device: choices | samplingFeature.logprobs,
  host: 0,
  none: choices,
};

/** Final hidden states that follow from each row's history, from −1 to 1. */
function hiddenStates(facts: readonly RowFacts[], width: number): Float32Array {
  const values = new Float32Array(facts.length * width);
  for (const [row, { hash }] of facts.entries()) {
    for (let column = 0; column < width; column++) {
      values[row * width + column] = (hash32(hash, column, hiddenSalt) / 2 ** 32) * 2 - 1;
    }
  }
  return values;
}

/** What an output row's answer follows from. */
interface RowFacts {
  hash: number;
  token: number;
  position: number;
}

/** A model without mathematics. It keeps each block's history, so a wrong copy, block or position changes what it answers. */
export class NullModel implements DeviceModel {
  readonly weightBytes = 0;
  readonly kv: KvPoolFacts;
  readonly inFlightStepsMax: number;
  readonly samplingFeatures: number;
  readonly hiddenWidth: number;
  readonly #source: DeviceModelSource;
  readonly #batchTokensMax: number;
  readonly #options: NullOptions;
  readonly #history: KvHistory;
  readonly #timer: StepTimer;
  readonly #eos: ReadonlySet<number>;
  readonly #checker: StepChecker;
  readonly #sampler = new ReferenceSampler();
  readonly #sampled = new SampledTokens();
  readonly adapters?: AdapterTable;
  /** By slot: a hash of what the adapter holds. */
  readonly #adapterHashes = new Map<number, number>();
  readonly #launched: (() => StepResult | Promise<StepResult>)[] = [];

  constructor(
    source: DeviceModelSource,
    modelOptions: DeviceModelOptions,
    options: NullOptions,
    kv: KvPoolFacts,
  ) {
    this.#source = source;
    this.#batchTokensMax = modelOptions.batchTokensMax;
    this.#options = options;
    this.kv = kv;
    this.hiddenWidth = source.hiddenWidth ?? 0;
    if (modelOptions.adapters) this.adapters = new AdapterTable(modelOptions.adapters);
    this.inFlightStepsMax = options.inFlightStepsMax;
    this.samplingFeatures = featuresOf[options.sampling];
    this.#history = new KvHistory(kv);
    this.#checker = new StepChecker(kv.blocks);
    this.#timer = new StepTimer(options.stepMs, options.rowUs);
    this.#eos = new Set(options.eosTokens);
    for (const token of [...options.eosTokens, ...options.script]) {
      if (token < source.vocabularySize) continue;
      throw new DeviceError(
        'DEVICE_OPTION_INVALID',
        `null device: token ${token} is not below the vocabulary's size ${source.vocabularySize}`,
      );
    }
    if (this.#eos.size >= source.vocabularySize) {
      throw new DeviceError('DEVICE_OPTION_INVALID', 'null device: eos-tokens leaves no other token to emit');
    }
  }

  launch(batch: StepBatch): void {
    this.#changeAdapters();
    const { vocabularySize, contextLength } = this.#source;
    this.#checker.check(batch, {
      ...this.kv,
      vocabularySize,
      contextLength,
      batchTokensMax: this.#batchTokensMax,
      previousOutputs: this.#sampled.count,
      adapters: this.#adapterHashes,
      givesHidden: this.hiddenWidth > 0,
    });
    this.#history.operate(batch.kv);
    // What stages hand on is the tokens themselves, so that each keeps the history of what it is given; float32 holds all ids below 2^24.
    const tokens = batch.hidden ? Int32Array.from(batch.hidden) : this.#sampled.resolve(batch);
    this.#write(batch, tokens);
    const output = this.#source.handsOn
      ? handedOn(batch, Float32Array.from(tokens))
      : this.#answer(batch, tokens);
    this.#sampled.keep(batch.serial, output);
    this.#launched.push(this.#timer.start(tokens.length, output));
  }

  collect(): StepResult | Promise<StepResult> {
    return definite(this.#launched.shift(), 'a launched step')();
  }

  close(): void {
    this.#launched.length = 0;
  }

  #changeAdapters(): void {
    for (const { slot, tensors } of this.adapters?.takeChanges() ?? []) {
      if (tensors) this.#adapterHashes.set(slot, hash32(...Buffer.from(tensors.digest)));
      else this.#adapterHashes.delete(slot);
    }
  }

  /** Appends every row to its sequence's history. */
  #write({ segments, positions }: StepBatch, tokens: Int32Array): void {
    const { blocks, blockStart } = segments;
    let row = 0;
    for (let index = 0; index < segments.count; index++) {
      const firstBlock = blockStart[index] as number;
      const end = row + (segments.rows[index] as number);
      const first = positions[row] as number;
      const slot = segments.adapter?.[index] ?? baseModel;
      const adapter = this.#adapterHashes.get(slot);
      let hash = first === 0 ? hashOfNothing : this.#history.at(blocks, firstBlock, first - 1);
      for (; row < end; row++) {
        hash = hash32(hash, tokens[row] as number);
        // What was computed with another adapter is other KV.
        if (adapter !== undefined) hash = hash32(hash, adapter);
        this.#history.write(blocks, firstBlock, positions[row] as number, hash);
      }
    }
  }

  #answer(batch: StepBatch, tokens: Int32Array): StepOutput {
    const { outputs } = batch;
    const facts = this.#rowFacts(batch, tokens);
    const likeliest = (row: number) => this.#pick(definite(facts[row], 'output row'));
    const isPlain = (row: number) =>
      outputs.sampling.temperature[row] === 0 &&
      outputs.sampling.state[row] === -1 &&
      outputs.wants[row] === want.token;
    let output: StepOutput;
    if (this.#options.sampling === 'none' || facts.every((_, row) => isPlain(row))) {
      output = { tokens: Int32Array.from(facts, (_, row) => this.#chosen(outputs, row, likeliest)) };
      if (this.#options.sampling !== 'none') return output;
    } else output = this.#sampler.choose(outputs, (row) => this.#candidates(definite(facts[row], 'row')));
    const isWanted = (bit: number) => facts.some((_, row) => (outputs.wants[row] as number) & bit);
    if (isWanted(want.logits)) output.logits = this.#denseLogits(outputs, facts);
    if (isWanted(want.hidden)) output.rowHidden = { values: hiddenStates(facts, this.hiddenWidth) };
    return output;
  }

  #chosen({ wants }: OutputTable, row: number, likeliest: (row: number) => number): number {
    return (wants[row] as number) & want.token ? likeliest(row) : hostChooses;
  }

  #rowFacts({ outputs, segments, positions }: StepBatch, tokens: Int32Array): RowFacts[] {
    const facts: RowFacts[] = [];
    let index = 0;
    let end = segments.rows[0] ?? 0;
    for (let output = 0; output < outputs.count; output++) {
      const row = outputs.rows[output] as number;
      while (row >= end) end += segments.rows[++index] as number;
      const position = positions[row] as number;
      const hash = this.#history.at(segments.blocks, segments.blockStart[index] as number, position);
      facts.push({ hash, token: tokens[row] as number, position });
    }
    return facts;
  }

  /** The row's possible tokens by id: the pick is the likeliest; the others lie up to five below it, each at a place of its own. */
  #candidates(facts: RowFacts): SampledRow {
    const count = Math.min(this.#options.candidates, this.#source.vocabularySize - this.#eos.size);
    let id = this.#pick(facts);
    const pairs: [id: number, logit: number][] = [];
    for (let i = 0; i < count; i++) {
      pairs.push([id, i === 0 ? 5 : (hash32(facts.hash, i, candidateSalt) / 2 ** 32) * 4.99]);
      do id = (id + 1) % this.#source.vocabularySize;
      while (this.#eos.has(id));
    }
    pairs.sort(([a], [b]) => a - b);
    return { ids: Int32Array.from(pairs, ([a]) => a), logits: Float32Array.from(pairs, ([, b]) => b) };
  }

  /** Rows for the host: those that want logits, side by side. */
  #denseLogits({ wants, count }: OutputTable, facts: readonly RowFacts[]): NonNullable<StepOutput['logits']> {
    const { vocabularySize } = this.#source;
    const places = new Int32Array(count).fill(-1);
    let rows = 0;
    for (let row = 0; row < count; row++) {
      if ((wants[row] as number) & want.logits) places[row] = rows++;
    }
    const values = new Float32Array(rows * vocabularySize).fill(Number.NEGATIVE_INFINITY);
    for (const [row, place] of places.entries()) {
      if (place < 0) continue;
      if ((wants[row] as number) & want.masked) {
        this.#fillUnlikely(values, place * vocabularySize, definite(facts[row], 'row').hash);
      }
      const { ids, logits } = this.#candidates(definite(facts[row], 'row'));
      assert(ids, 'candidates have ids');
      for (const [index, id] of ids.entries()) values[place * vocabularySize + id] = logits[index] as number;
    }
    return { values, places };
  }

  /** Logits far below the candidates', each row's in an order of its own, for who may have to take one of them. */
  #fillUnlikely(values: Float32Array, start: number, hash: number): void {
    for (let id = 0; id < this.#source.vocabularySize; id++) {
      values[start + id] = unlikely + (Math.imul(hash ^ id, 0x9e3779b1) >>> 0) / 2 ** 32;
    }
    for (const id of this.#eos) values[start + id] = unlikely - 1;
  }

  #pick({ hash, token, position }: RowFacts): number {
    const { mode, script, eosTokens, eosChance } = this.#options;
    if (mode === 'echo') return token;
    if (mode === 'script') return definite(script[(position + 1) % script.length], 'script token');
    if (eosChance > 0 && hash32(hash, eosSalt) / 2 ** 32 < eosChance)
      return definite(eosTokens[0], 'eos token');
    const { vocabularySize } = this.#source;
    let picked = hash32(hash, tokenSalt) % vocabularySize;
    while (this.#eos.has(picked)) picked = (picked + 1) % vocabularySize;
    return picked;
  }
}
