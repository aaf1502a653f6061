import { assert, definite, messageOf, NereidError } from '../../base/errors.ts';
import { uniform } from '../../base/random.ts';
import type { DeviceModel, StepOutput, StepResult } from '../../device/device.ts';
import { DeviceError } from '../../device/errors.ts';
import { type PhaseRecorder, phases } from '../../trace/phases.ts';
import { RuntimeError } from '../errors.ts';
import type { KvMatch, KvUsage } from '../kv/kv-cache.ts';
import { SlotKvCache } from '../kv/slots.ts';
import { planBatch, UrgencyQueue } from '../plan/scheduler.ts';
import type { SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import type { EngineDescription, EngineStatistics } from '../requests/statistics.ts';
import { validateRequest } from '../requests/validate.ts';
import { probabilitiesOf, rowOf } from '../sampling/logit-row.ts';
import { tokenLogprobs } from '../sampling/logprobs.ts';
import { Sampler } from '../sampling/sampler.ts';
import { ActiveRequest, type Sequence } from '../sequences/sequence.ts';
import { type AssembledStep, BatchAssembler, type OutputUse } from '../step/assembler.ts';
import { EventSink } from '../step/event-sink.ts';
import { type EngineCoreOptions, type ResolvedOptions, resolveOptions } from './engine-options.ts';

export type { EngineCoreOptions } from './engine-options.ts';

/** Failed steps in a row after which the device counts as lost, even if each failure alone looked harmless. */
export const failedStepsMax = 3;

/**
 * An engine without a transport: requests in, one array of events a step out. Whoever owns it calls {@link step} while it is not
 * {@link idle} and hands in submits and cancels between steps (or while an asynchronous step is in flight).
 */
export class EngineCore {
  readonly description: EngineDescription;
  readonly #model: DeviceModel;
  readonly #options: ResolvedOptions;
  readonly #cache: SlotKvCache;
  readonly #sampler: Sampler;
  readonly #assembler: BatchAssembler;
  readonly #events: EventSink;
  readonly #trace: PhaseRecorder;
  readonly #requests = new Map<number, ActiveRequest>();
  readonly #waiting = new UrgencyQueue<Sequence>();
  readonly #running = new UrgencyQueue<Sequence>();
  readonly #counters = {
    promptTokens: 0,
    cachedPromptTokens: 0,
    generatedTokens: 0,
    steps: 0,
    computeNs: 0,
    stepNs: 0,
    prefixQueries: 0,
    prefixHits: 0,
  };
  /** Requests of which nothing ran yet. */
  #queuedRequests = 0;
  #arrivals = 0;
  #failedSteps = 0;
  #inFlight: AssembledStep | undefined;
  #fatal: unknown;

  /**
   * @param emit gets the events of each step, all sequences' in one array
   * @throws RuntimeError `OPTIONS_INVALID`
   */
  constructor(model: DeviceModel, options: EngineCoreOptions, emit: (events: SequenceEvent[]) => void) {
    this.#model = model;
    this.#options = resolveOptions(options);
    this.#trace = this.#options.phases;
    this.#events = new EventSink((events) => {
      this.#trace.begin(phases.emit);
      emit(events);
      this.#trace.end(phases.emit);
    });
    this.#sampler = new Sampler(options.vocabularySize);
    this.#assembler = new BatchAssembler(options.batchTokensMax);
    this.#cache = new SlotKvCache({
      slots: options.slots,
      bytesMax: options.kvBytesMax,
      bytesPerPosition: model.kvBytesPerPosition,
      retainedBytesMax: this.#options.prefixReuse ? this.#options.prefixCacheBytesMax : 0,
      copySlot: (from, to, length) => model.copySlot(from, to, length),
      releaseSlot: (slot) => {
        // A lost device has nothing to give back, and might throw.
        if (this.#fatal === undefined) model.releaseSlot(slot);
      },
    });
    this.description = {
      name: options.name,
      device: options.device,
      vocabularySize: options.vocabularySize,
      contextLength: options.contextLength,
      sequencesMax: this.#options.sequencesMax,
      batchTokensMax: options.batchTokensMax,
      kvBytesMax: options.kvBytesMax,
      weightBytes: model.weightBytes,
    };
  }

  /** Whether {@link step} would do nothing. */
  get idle(): boolean {
    return this.#requests.size === 0 && this.#events.isEmpty;
  }

  /**
   * Queues a request.
   * @throws RuntimeError `REQUEST_INVALID`, `PROMPT_TOO_LONG`, `REQUEST_TOO_LARGE`, `QUEUE_FULL`, `ENGINE_FAILED`
   */
  submit(request: GenerationRequest): void {
    if (this.#fatal !== undefined) throw engineFailed(this.#fatal);
    validateRequest(request, this.description);
    if (this.#requests.has(request.id)) {
      throw new RuntimeError('REQUEST_INVALID', `request id ${request.id} is in use; ids must be unique`);
    }
    if (this.#queuedRequests >= this.#options.queuedRequestsMax) {
      throw new RuntimeError(
        'QUEUE_FULL',
        `${this.#queuedRequests} requests are waiting, which is the limit (queuedRequestsMax); try again later`,
      );
    }
    const active = new ActiveRequest(request, {
      seed: request.sampling.seed ?? this.#options.randomSeed(),
      arrival: this.#arrivals++,
      arrivalNs: this.#options.clock.nowNs(),
      contextLength: this.#options.contextLength,
    });
    this.#checkSize(definite(active.sequences[0], 'sequence'));
    this.#requests.set(request.id, active);
    this.#queuedRequests++;
    this.#trace.begin(phases.queue, request.id);
    this.#enqueueReady(active);
  }

  /** Ends a request or one sequence of it; unknown ones are ignored. No batch planned after the call holds it. */
  cancel(requestId: number, sequence?: number): void {
    const request = this.#requests.get(requestId);
    if (!request) return;
    for (const one of request.sequences) {
      if (sequence !== undefined && one.index !== sequence) continue;
      // Its slot is being written: it ends, without another token, when the step does.
      if (this.#inFlight?.planned.some((planned) => planned.sequence === one)) one.isCancelled = true;
      else this.#finish(one, 'cancelled');
    }
    this.#enqueueReady(request);
  }

  statistics(): EngineStatistics {
    return {
      ...this.#counters,
      atNs: this.#options.clock.nowNs(),
      runningSequences: this.#running.items.length,
      waitingRequests: this.#queuedRequests,
      kvBytesReserved: this.#cache.usage().bytesReserved,
      kvBytesMax: this.#options.kvBytesMax,
    };
  }

  kvUsage(): KvUsage {
    return this.#cache.usage();
  }

  /** Gives back the KV memory of finished prompts that was kept for reuse. */
  releaseRetained(): void {
    this.#cache.releaseRetained();
  }

  /** One step: plan, run, sample, emit. Returns a promise when the device is asynchronous. */
  step(): void | Promise<void> {
    assert(!this.#inFlight, 'one step at a time');
    const startNs = this.#options.clock.nowNs();
    let step: AssembledStep | undefined;
    this.#trace.step(this.#counters.steps + 1);
    this.#trace.begin(phases.step);
    try {
      step = this.#plan();
      if (!step) {
        this.#events.flush();
        this.#endStep();
        return;
      }
      this.#inFlight = step;
      this.#trace.begin(phases.compute);
      const result = this.#model.run(step.batch);
      if (result instanceof Promise) return this.#await(step, result, startNs);
      this.#complete(step, result, startNs);
    } catch (thrown) {
      this.#fail(step, thrown);
    }
  }

  async #await(step: AssembledStep, pending: Promise<StepResult>, startNs: number): Promise<void> {
    try {
      this.#complete(step, await pending, startNs);
    } catch (thrown) {
      this.#fail(step, thrown);
    }
  }

  #checkSize(sequence: Sequence): void {
    if (sequence.positionsWorst <= this.#cache.positionsMax) return;
    throw new RuntimeError(
      'REQUEST_TOO_LARGE',
      `prompt and maxTokens need ${sequence.positionsWorst} KV positions, but the cache has ${this.#cache.positionsMax}; ` +
        "lower maxTokens, or raise the engine's KV bytes",
    );
  }

  /** Queues what of a request may start: its first sequence, and the others once the prompt is computed. */
  #enqueueReady(request: ActiveRequest): void {
    const isLed = request.sequences.some(({ state }) => state === 'waiting' || state === 'running');
    for (const sequence of request.sequences) {
      if (sequence.state !== 'pending') continue;
      if (!request.isPromptComputed && isLed) return;
      sequence.state = 'waiting';
      this.#waiting.add(sequence);
      if (!request.isPromptComputed) return;
    }
  }

  #endStep(): void {
    this.#trace.end(phases.step);
    this.#trace.step(0);
  }

  #plan(): AssembledStep | undefined {
    this.#trace.begin(phases.admission);
    this.#applyCapacity();
    this.#trace.end(phases.admission);
    if (this.#running.items.length === 0) return undefined;
    this.#trace.begin(phases.schedule);
    const planned = planBatch(this.#running.items, this.#options.batchTokensMax);
    for (const { sequence, rows } of planned) {
      const positions = Math.max(
        sequence.computed + rows,
        this.#options.capacityPolicy.reservation(sequence),
      );
      assert(this.#cache.append(sequence.handle, positions), 'a planned sequence has room');
    }
    const step = this.#assembler.assemble(planned);
    this.#trace.end(phases.schedule);
    return step;
  }

  #applyCapacity(): void {
    const plan = this.#options.capacityPolicy.plan({
      running: this.#running.items,
      waiting: this.#waiting.items,
      sequencesMax: this.#options.sequencesMax,
      positionsMax: this.#cache.positionsMax,
    });
    for (const sequence of plan.pause) this.#pause(sequence);
    for (const sequence of plan.admit) this.#admit(sequence);
  }

  #pause(sequence: Sequence): void {
    this.#running.remove(sequence);
    this.#cache.release(sequence.handle, this.#options.prefixReuse);
    sequence.handle = -1;
    sequence.computed = 0;
    sequence.state = 'waiting';
    this.#waiting.add(sequence);
  }

  #admit(sequence: Sequence): void {
    const request = sequence.owner;
    const match = this.#match(sequence);
    const positions = this.#options.capacityPolicy.reservation(sequence);
    const { handle, cached } = this.#cache.reserve(request.prefixKey, positions, match);
    this.#waiting.remove(sequence);
    this.#running.add(sequence);
    sequence.handle = handle;
    sequence.computed = cached;
    sequence.state = 'running';
    if (!Number.isNaN(request.startNs)) return;
    request.startNs = this.#options.clock.nowNs();
    this.#trace.end(phases.queue, request.request.id);
    this.#trace.begin(phases.prefill, request.request.id);
    request.cachedTokens = cached;
    this.#queuedRequests--;
    this.#counters.promptTokens += sequence.promptLength;
    this.#counters.cachedPromptTokens += cached;
    if (!this.#options.prefixReuse) return;
    this.#counters.prefixQueries += sequence.promptLength;
    this.#counters.prefixHits += cached;
  }

  /** KV to start from. One row at least is always computed, for its logits. */
  #match(sequence: Sequence): KvMatch | undefined {
    const request = sequence.owner;
    if (request.needsPromptRows) return undefined;
    const tokens = sequence.tokens;
    const lengthMax = tokens.length - 1;
    for (const { handle, state } of request.sequences) {
      if (state !== 'running') continue;
      const match = this.#cache.matchHandle(handle, request.prefixKey, tokens, lengthMax);
      if (match) return match;
    }
    return this.#options.prefixReuse ? this.#cache.match(request.prefixKey, tokens, lengthMax) : undefined;
  }

  #complete(step: AssembledStep, result: StepResult, startNs: number): void {
    this.#trace.end(phases.compute);
    this.#inFlight = undefined;
    this.#failedSteps = 0;
    this.#trace.begin(phases.sample);
    for (const { sequence, rows } of step.planned) this.#commit(sequence, rows);
    for (const [row, use] of step.uses.entries()) this.#take(result.output, row, use);
    this.#trace.end(phases.sample);
    this.#counters.steps++;
    this.#counters.computeNs += result.computeNs;
    this.#counters.stepNs += this.#options.clock.nowNs() - startNs;
    this.#events.flush();
    this.#endStep();
  }

  /** The step wrote `rows` more positions of the sequence. */
  #commit(sequence: Sequence, rows: number): void {
    const end = sequence.computed + rows;
    this.#cache.commit(sequence.handle, sequence.tokens.subarray(sequence.computed, end));
    sequence.computed = end;
    if (sequence.isCancelled) {
      this.#finish(sequence, 'cancelled');
      this.#enqueueReady(sequence.owner);
    }
  }

  /** Makes an output row into a token or a prompt's log-probability. */
  #take(output: StepOutput, row: number, { sequence, promptPosition }: OutputUse): void {
    // It was cancelled while the step ran, or another sequence of it failed.
    if (sequence.state === 'finished') return;
    if (promptPosition !== undefined) this.#takePromptLogprob(output, row, sequence, promptPosition);
    else {
      try {
        this.#takeToken(output, row, sequence);
      } catch (thrown) {
        if (!(thrown instanceof RuntimeError)) throw thrown;
        this.#failRequest(sequence.owner, thrown);
      }
    }
  }

  #takePromptLogprob(output: StepOutput, row: number, sequence: Sequence, position: number): void {
    const { promptLogprobs, request } = sequence.owner;
    assert(promptLogprobs && output.kind !== 'tokens', 'logits were asked for');
    const logits = rowOf(output, row, this.#options.vocabularySize);
    const token = definite(request.promptTokens[position], 'prompt token');
    promptLogprobs[position] = tokenLogprobs(logits, token, request.promptLogprobs ?? 0);
  }

  #takeToken(output: StepOutput, row: number, sequence: Sequence): void {
    const request = sequence.owner;
    const { sampling, seed } = request;
    let token: number;
    if (output.kind === 'tokens') {
      token = definite(output.tokens[row], 'token');
      this.#start(sequence);
      this.#events.token(sequence, token);
    } else {
      const logits = rowOf(output, row, this.#options.vocabularySize);
      const { tokens, promptLength, index, length } = sequence;
      token = this.#sampler.sample(logits, {
        sampling,
        tokens,
        promptLength,
        probabilities: probabilitiesOf(output, row, this.#options.vocabularySize),
        uniform: sampling.isGreedy ? 0 : uniform(seed, index, length),
      });
      this.#start(sequence);
      const wantsLogprobs = sampling.logprobs >= 0;
      this.#events.token(
        sequence,
        token,
        wantsLogprobs ? tokenLogprobs(logits, token, sampling.logprobs) : undefined,
      );
    }
    this.#counters.generatedTokens++;
    sequence.push(token);
    this.#finishIfDone(sequence, token);
    if (!request.isPromptComputed) {
      request.isPromptComputed = true;
      this.#enqueueReady(request);
    }
  }

  #finishIfDone(sequence: Sequence, token: number): void {
    const { request, stopTokens } = sequence.owner;
    if (stopTokens.has(token) && sequence.generated > request.minTokens - 1) this.#finish(sequence, 'stop');
    else if (sequence.generated >= request.maxTokens || sequence.length >= this.#options.contextLength) {
      this.#finish(sequence, 'length');
    }
  }

  #start(sequence: Sequence): void {
    const request = sequence.owner;
    if (request.isStarted) return;
    request.isStarted = true;
    this.#trace.end(phases.prefill, request.request.id);
    this.#trace.begin(phases.decode, request.request.id);
    this.#events.start(sequence, {
      seed: request.seed,
      cachedTokens: request.cachedTokens,
      queuedMs: (request.startNs - request.arrivalNs) / 1e6,
      prefillMs: (this.#options.clock.nowNs() - request.startNs) / 1e6,
      promptLogprobs: request.promptLogprobs,
    });
  }

  /** Ends a sequence in whatever state it is, and its request with its last one. */
  #finish(sequence: Sequence, reason: NonNullable<Sequence['finish']>, error?: unknown): void {
    if (sequence.state === 'finished') return;
    if (sequence.state === 'waiting') this.#waiting.remove(sequence);
    if (sequence.state === 'running') {
      this.#running.remove(sequence);
      this.#cache.release(sequence.handle, reason !== 'error' && this.#options.prefixReuse);
      sequence.handle = -1;
    }
    sequence.state = 'finished';
    sequence.finish = reason;
    this.#events.finish(sequence, error);
    const request = sequence.owner;
    request.unfinished--;
    if (request.unfinished > 0) return;
    this.#requests.delete(request.request.id);
    if (request.isStarted) this.#trace.end(phases.decode, request.request.id);
    if (Number.isNaN(request.startNs)) this.#queuedRequests--;
  }

  #failRequest(request: ActiveRequest, error: unknown): void {
    for (const sequence of request.sequences) this.#finish(sequence, 'error', error);
  }

  /** A step failed: its requests fail; the rest goes on if the device is still there. */
  #fail(step: AssembledStep | undefined, thrown: unknown): void {
    this.#inFlight = undefined;
    this.#failedSteps++;
    const isFatal = !step || !isSurvivable(thrown) || this.#failedSteps >= failedStepsMax;
    const failed = isFatal
      ? [...this.#requests.values()]
      : new Set(definite(step, 'step').planned.map(({ sequence }) => sequence.owner));
    const error = thrown instanceof NereidError && !isFatal ? thrown : engineFailed(thrown);
    if (isFatal) this.#fatal = thrown ?? error;
    for (const request of failed) this.#failRequest(request, error);
    this.#events.flush();
    this.#endStep();
    if (!isFatal) return;
    if (!this.#options.onFatal) throw thrown;
    this.#options.onFatal(thrown);
  }
}

/** Whether the device itself says that it can go on: it refused this work, rather than broke. */
function isSurvivable(thrown: unknown): boolean {
  return thrown instanceof DeviceError && thrown.code !== 'DEVICE_FAILED';
}

function engineFailed(cause: unknown): RuntimeError {
  return new RuntimeError(
    'ENGINE_FAILED',
    `the engine failed: ${messageOf(cause)}; the request was lost and may be sent again`,
    { cause },
  );
}
