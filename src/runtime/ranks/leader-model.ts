import { definite } from '../../base/errors.ts';
import type { DeviceModel, KvPoolFacts } from '../../device/device.ts';
import { after, type Pending } from '../../device/pending.ts';
import { SampledTokens } from '../../device/sampled-tokens.ts';
import type { StepBatch, StepResult } from '../../device/step.ts';
import { groupFailure } from './group-failure.ts';
import type { RankLink } from './rank-link.ts';
import { decodeResult, decodeStep, encodeHidden, encodeStep } from './step-codec.ts';

/** What rank 0's model of a group is made of. */
export interface LeaderParts {
  /** Rank 0's own part of the model. */
  own: DeviceModel;
  kv: KvPoolFacts;
  weightBytes: number;
  /** To every other rank. */
  links: readonly RankLink[];
}

/**
 * A model that is divided among tensor-parallel ranks, as rank 0's engine sees it: each step plan goes to the other ranks, which replay it in the
 * same order while this rank computes its part. Every failure is the whole group's: ranks that went on differently could not be told apart.
 */
export class TensorLeaderModel implements DeviceModel {
  readonly weightBytes: number;
  readonly kv: KvPoolFacts;
  readonly inFlightStepsMax: number;
  readonly samplingFeatures: number;
  readonly hiddenWidth: number;
  readonly #own: DeviceModel;
  readonly #links: readonly RankLink[];

  constructor({ own, kv, weightBytes, links }: LeaderParts) {
    this.#own = own;
    this.#links = links;
    this.kv = kv;
    this.weightBytes = weightBytes;
    this.inFlightStepsMax = own.inFlightStepsMax;
    this.samplingFeatures = own.samplingFeatures;
    this.hiddenWidth = own.hiddenWidth ?? 0;
  }

  launch(batch: StepBatch): void {
    const bytes = encodeStep(batch);
    for (const link of this.#links) link.send('step', bytes);
    try {
      // A copy, which the caller does not change while other ranks are waited for.
      this.#own.launch(decodeStep(bytes));
    } catch (thrown) {
      throw groupFailure(thrown);
    }
  }

  collect(): Pending<StepResult> {
    const result = this.#own.collect();
    return result instanceof Promise
      ? result.catch((thrown) => Promise.reject(groupFailure(thrown)))
      : result;
  }

  close(): void {
    this.#own.close();
  }
}

/** A {@link LeaderParts} whose model is divided into stages, too. */
export interface PipelineParts extends LeaderParts {
  stages: number;
  /** To the next stage's rank of the same tensor rank. */
  next: RankLink;
  /** To the last stage's first rank, which sends each step's result. */
  last: RankLink;
}

/**
 * A model that is divided into stages, as rank 0's engine sees it: this rank computes the first stage and hands its rows on; the last stage sends
 * the result. As many steps may be under way as there are stages. A step that takes tokens of the one before waits for them here, since only the
 * last stage knows them.
 */
export class PipelineLeaderModel implements DeviceModel {
  readonly weightBytes: number;
  readonly kv: KvPoolFacts;
  readonly inFlightStepsMax: number;
  readonly stages: number;
  readonly samplingFeatures: number;
  readonly #parts: PipelineParts;
  readonly #results: Pending<StepResult>[] = [];
  readonly #sampled = new SampledTokens();
  /** The step before: its result, and that it left this stage. */
  #before: Pending<unknown>;
  #left: Pending<unknown>;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.kv = parts.kv;
    this.weightBytes = parts.weightBytes;
    this.inFlightStepsMax = parts.stages;
    this.stages = parts.stages;
    this.samplingFeatures = parts.own.samplingFeatures;
  }

  launch(batch: StepBatch): void {
    const { serial } = batch;
    const copy = decodeStep(encodeStep(batch));
    const waits = copy.tokens.some((token) => token < 0);
    const before = waits ? this.#before : undefined;
    const ready = after(this.#left, () => before);
    const left = guarded(
      after(ready, () => this.#start(waits ? { ...copy, tokens: this.#sampled.resolve(copy) } : copy)),
    );
    this.#left = left;
    const result = guarded(after(left, (own) => own ?? this.#received(serial)));
    this.#before = result;
    this.#results.push(result);
  }

  collect(): Pending<StepResult> {
    const result = definite(this.#results.shift(), 'a launched step');
    return result instanceof Promise
      ? result.catch((thrown) => Promise.reject(groupFailure(thrown)))
      : result;
  }

  close(): void {
    this.#parts.own.close();
  }

  /** Computes the first stage. @returns the whole result where a step has no rows, so that nothing is handed on */
  #start(batch: StepBatch): Pending<StepResult | undefined> {
    const { own, links, next } = this.#parts;
    const bytes = encodeStep(batch);
    for (const link of links) link.send('step', bytes);
    own.launch(batch);
    return after(own.collect(), (result) => {
      if (batch.tokens.length === 0) return result;
      next.send('hidden', encodeHidden(definite(result.output.hidden, 'what a stage hands on')));
      return undefined;
    });
  }

  async #received(serial: number): Promise<StepResult> {
    const result = decodeResult(await this.#parts.last.next('result'));
    this.#sampled.keep(serial, result.output);
    return result;
  }
}

/** Whoever collects the step hears of its failure. */
function guarded<T>(value: Pending<T>): Pending<T> {
  if (value instanceof Promise) value.catch(() => {});
  return value;
}
