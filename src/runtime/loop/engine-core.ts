import { assert, definite, messageOf, NereidError } from '../../base/errors.ts';
import type { DeviceModel } from '../../device/device.ts';
import { type PhaseRecorder, phases } from '../../trace/phases.ts';
import type { AdapterLease } from '../adapters/adapter-lease.ts';
import { adaptersUnsupported, RuntimeError } from '../errors.ts';
import { Guidance } from '../guidance/guidance.ts';
import { createKvCache } from '../kv/create.ts';
import type { KvCache, KvChanges, KvUsage } from '../kv/kv-cache.ts';
import type { OutputRoom } from '../outputs/output-store.ts';
import { outputLayout, RequestOutputs } from '../outputs/request-outputs.ts';
import { type Prerequisite, whenReady } from '../plan/prerequisites.ts';
import { emptyPlan, type PlannedRows, planBatch } from '../plan/scheduler.ts';
import type { SequenceEvent } from '../requests/events.ts';
import type { AdapterReference, GenerationRequest } from '../requests/request.ts';
import type { EngineDescription, EngineStatistics } from '../requests/statistics.ts';
import { validateRequest } from '../requests/validate.ts';
import { ActiveRequest, type Sequence } from '../sequences/sequence.ts';
import { Speculation } from '../speculation/speculation.ts';
import { BatchAssembler } from '../step/assembler.ts';
import { EventSink } from '../step/event-sink.ts';
import { Admission } from './admission.ts';
import { Completion } from './completion.ts';
import { type EngineCounters, newCounters } from './counters.ts';
import { type EngineCoreOptions, type ResolvedOptions, resolveOptions } from './engine-options.ts';
import { SequenceTable } from './sequence-table.ts';
import { type CollectedStep, isSurvivable, StepPipeline } from './step-pipeline.ts';

export type { EngineCoreOptions } from './engine-options.ts';

/** Steps in a row that the device refused though they held one sequence alone; after that it counts as lost, harmless as each may look. */
export const failedStepsMax = 3;

/**
 * An engine without a transport: requests in, one array of events a step out. Whoever owns it calls {@link step} while it
 * {@link hasRunnable} and hands in submits and cancels between steps (or while an asynchronous step is in flight).
 *
 * With `inFlightStepsMax` 2 or more the next step is launched before the last one's tokens are read: they stay on the device, and host
 * time hides behind the device's. With 1 the same code is the plain loop.
 */
export class EngineCore {
  readonly description: EngineDescription;
  readonly #options: ResolvedOptions;
  readonly #cache: KvCache;
  readonly #events: EventSink;
  readonly #trace: PhaseRecorder;
  readonly #table: SequenceTable;
  readonly #admission: Admission;
  readonly #completion: Completion;
  readonly #pipeline: StepPipeline;
  readonly #speculation: Speculation;
  /** Steps that a pipelined device computes at a time. */
  readonly #stages: number;
  readonly #counters: EngineCounters = newCounters();
  #guidance: Guidance | undefined;
  readonly #planned = emptyPlan<Sequence>();
  #arrivals = 0;
  #failedSteps = 0;
  #isStepping = false;
  #fatal: unknown;

  /**
   * @param emit gets the events of each step, all sequences' in one array
   * @throws RuntimeError `OPTIONS_INVALID`
   */
  constructor(model: DeviceModel, options: EngineCoreOptions, emit: (events: SequenceEvent[]) => void) {
    this.#options = resolveOptions(options);
    const { sequencesMax, batchTokensMax, prefixReuse, clock, capacityPolicy: policy } = this.#options;
    const { sharedPrefixPositionsMin } = this.#options;
    const { vocabularySize, contextLength } = options;
    const { samplingFeatures } = model;
    const trace = this.#options.phases;
    this.#trace = trace;
    const events = new EventSink((batch) => {
      trace.begin(phases.emit);
      emit(batch);
      trace.end(phases.emit);
    });
    this.#events = events;
    const cache = createKvCache(model.kv, this.#options);
    this.#cache = cache;
    const table = new SequenceTable({ cache, events, trace, prefixReuse, samplingStates: sequencesMax });
    this.#table = table;
    const counters = this.#counters;
    this.#admission = new Admission({
      ...{ policy, cache, table, sequencesMax, prefixReuse, samplingFeatures, counters, clock, trace },
      sharedPrefixPositionsMin,
    });
    this.#stages = this.#options.inFlightStepsMax === 1 ? 1 : (model.stages ?? 1);
    const wanted = Math.max(this.#options.inFlightStepsMax, this.#stages);
    const inFlightMax = Math.min(wanted, model.inFlightStepsMax);
    const drafts = new Speculation(this.#options.speculation, clock, counters, inFlightMax > 1);
    this.#speculation = drafts;
    const completion = new Completion({
      ...{ cache, table, events, counters, clock, trace, vocabularySize, drafts },
      lateMaskWaitMs: this.#options.guidance.lateMaskWaitMs,
      onAnswers: () => this.#options.onRunnable?.(),
    });
    this.#completion = completion;
    const assembler = new BatchAssembler(
      {
        batchTokensMax,
        sequencesMax,
        samplingFeatures,
        promptConsumer: (sequence, position) => completion.promptConsumer(sequence, position),
        draftConsumer: (sequence, drafts) => completion.draftConsumer(sequence, drafts),
      },
      cache,
    );
    this.#pipeline = new StepPipeline(model, assembler, inFlightMax, batchTokensMax);
    this.description = {
      name: options.name,
      device: options.device,
      vocabularySize,
      contextLength,
      sequencesMax,
      batchTokensMax,
      kvBytesMax: cache.usage().bytesMax,
      kvChunkPositions: cache.chunkPositions,
      weightBytes: model.weightBytes,
      hiddenWidth: model.hiddenWidth ?? 0,
      outputBytesMax: this.#options.outputs.bytesMax,
    };
  }

  /** Whether there is nothing at all: no request, no event to hand over, no memory to give back. */
  get isEmpty(): boolean {
    return this.#table.requests.size === 0 && !this.hasRunnable;
  }

  /** Whether {@link step} would do something. Requests that wait for a prerequisite alone are not runnable. */
  get hasRunnable(): boolean {
    const { running, waiting } = this.#table;
    if (!this.#events.isEmpty || this.#pipeline.inFlight > 0) return true;
    if (this.#fatal !== undefined) return false;
    if (this.#cache.hasOperations || this.#completion.canResume) return true;
    // Sequences that wait for their guides are running, but nothing of them can run.
    const { deferredCount } = this.#completion;
    if (running.items.length > deferredCount) return true;
    return waiting.items.length > 0 && (deferredCount === 0 || this.#table.isChanged);
  }

  /**
   * Queues a request.
   * @param given what must be there before anything of it may run; released when it ends
   * @throws RuntimeError `REQUEST_INVALID`, `PROMPT_TOO_LONG`, `REQUEST_TOO_LARGE`, `QUEUE_FULL`, `ENGINE_FAILED`, `GUIDANCE_UNAVAILABLE`,
   * `OUTPUTS_UNSUPPORTED`
   */
  submit(request: GenerationRequest, given: readonly Prerequisite[] = []): void {
    if (this.#fatal !== undefined) throw engineFailed(this.#fatal);
    validateRequest(request, this.description);
    const { requests, queuedRequests } = this.#table;
    if (requests.has(request.id)) {
      throw new RuntimeError('REQUEST_INVALID', `request id ${request.id} is in use; ids must be unique`);
    }
    if (queuedRequests >= this.#options.queuedRequestsMax) {
      throw new RuntimeError(
        'QUEUE_FULL',
        `${queuedRequests} requests are waiting, which is the limit (queuedRequestsMax); try again later`,
      );
    }
    const guidance = request.guide && this.#guidanceFor();
    const lease = request.adapter && this.#lease(request.adapter);
    const grammar = request.guide && guidance?.lease(request.guide, request.stopTokenIds);
    const room = this.#roomFor(request);
    const needed = [lease, grammar].filter((one) => one !== undefined);
    const active = new ActiveRequest(request, {
      grammar,
      outputs: request.returns && new RequestOutputs(request, this.description, room),
      seed: request.sampling.seed ?? this.#options.randomSeed(),
      arrival: this.#arrivals++,
      arrivalNs: this.#options.clock.nowNs(),
      contextLength: this.#options.contextLength,
      prerequisites: needed.length > 0 || room ? [...given, ...needed, ...(room ? [room] : [])] : given,
    });
    this.#completion.attach(active);
    try {
      this.#checkSize(definite(active.sequences[0], 'sequence'));
    } catch (thrown) {
      grammar?.release();
      lease?.release();
      room?.release();
      throw thrown;
    }
    this.#table.add(active);
    this.#speculation.add(active.sequences);
    this.#trace.begin(phases.queue, request.id);
    whenReady(room ? [...given, ...needed] : active.prerequisites, (error) => {
      if (lease && error === undefined) active.adapterSlot = lease.slot;
      if (!room || error !== undefined) this.#onPrerequisites(active, error);
      else {
        room.ask();
        whenReady([room], () => this.#onPrerequisites(active, undefined));
      }
    });
  }

  /** Ends a request or one sequence of it; unknown ones are ignored. No batch planned after the call holds it. */
  cancel(requestId: number, sequence?: number): void {
    const request = this.#table.requests.get(requestId);
    if (!request) return;
    if (sequence === undefined || request.request.beams) {
      for (const one of request.sequences) this.#table.finish(one, 'cancelled');
      return;
    }
    const one = request.sequences[sequence];
    if (one) this.#table.finish(one, 'cancelled');
    this.#table.enqueueReady(request);
  }

  statistics(): EngineStatistics {
    const { bytesReserved, bytesMax, hostBytesUsed } = this.#cache.usage();
    const { adapters } = this.#options;
    return {
      ...this.#counters,
      acceptedDraftsByPlace: [...this.#counters.acceptedDraftsByPlace],
      atNs: this.#options.clock.nowNs(),
      runningSequences: this.#table.running.items.length,
      contextSequences: this.#table.running.items.filter(({ isGenerating }) => !isGenerating).length,
      pausedSequences: this.#table.waitingOfBegun,
      waitingRequests: this.#table.queuedRequests,
      kvBytesReserved: bytesReserved,
      kvBytesMax: bytesMax,
      kvHostBytesUsed: hostBytesUsed,
      ...(adapters && { adapters: adapters.use() }),
    };
  }

  kvUsage(): KvUsage {
    return this.#cache.usage();
  }

  /** Which prompts became or ceased to be known to the cache since the last call. */
  takeKvChanges(): KvChanges | undefined {
    return this.#cache.takeChanges();
  }

  /** The prompts that are known to the cache now, as {@link KvChanges} has them. */
  get knownPrefixes(): Iterable<number> {
    return this.#cache.knownPrefixes;
  }

  /** Gives back the KV memory of finished prompts that was kept for reuse, with the next step. */
  releaseRetained(): void {
    this.#cache.releaseRetained();
  }

  /** Ends the threads beside the loop. */
  async close(): Promise<void> {
    await this.#guidance?.close();
    this.#options.outputs.close();
  }

  /** One step: launches as many as may be in flight, then collects the oldest. Returns a promise when the device is asynchronous. */
  step(): void | Promise<void> {
    assert(!this.#isStepping, 'one step at a time');
    const startNs = this.#options.clock.nowNs();
    this.#trace.step(this.#counters.steps + 1);
    this.#trace.begin(phases.step);
    try {
      this.#completion.resume();
      const drafting = this.#speculation.isOn
        ? this.#speculation.draft(this.#table.running.items)
        : undefined;
      if (drafting) return this.#await(drafting, () => this.#run(startNs));
      return this.#run(startNs);
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  #run(startNs: number): void | Promise<void> {
    this.#launch();
    if (this.#pipeline.inFlight === 0) {
      this.#events.flush();
      this.#endStep();
      return;
    }
    this.#trace.begin(phases.compute);
    const collected = this.#pipeline.collect();
    if (collected instanceof Promise) return this.#await(collected, (step) => this.#complete(step, startNs));
    this.#complete(collected, startNs);
  }

  /** What follows an answer of a device. */
  async #await<T>(pending: Promise<T>, follow: (value: T) => void | Promise<void>): Promise<void> {
    this.#isStepping = true;
    try {
      const value = await pending;
      this.#isStepping = false;
      await follow(value);
    } catch (thrown) {
      this.#isStepping = false;
      this.#fail(thrown);
    }
  }

  #guidanceFor(): Guidance {
    const { vocabulary, vocabularySize, sequencesMax, guidance } = this.#options;
    if (!vocabulary) {
      const message =
        'this engine knows no vocabulary, so it cannot guide texts; serve it with its tokenizer';
      throw new RuntimeError('GUIDANCE_UNAVAILABLE', message);
    }
    this.#guidance ??= new Guidance({
      ...{ vocabulary, vocabularySize, sequencesMax },
      ...(guidance.start && { start: guidance.start }),
      onAnswers: () => this.#options.onRunnable?.(),
    });
    return this.#guidance;
  }

  #endStep(): void {
    this.#trace.end(phases.step);
    this.#trace.step(0);
  }

  #onPrerequisites(request: ActiveRequest, error: unknown): void {
    if (error !== undefined) {
      for (const sequence of request.sequences) this.#table.finish(sequence, 'error', error);
    } else {
      request.isReady = true;
      this.#table.enqueueReady(request);
    }
    this.#options.onRunnable?.();
  }

  /** Room for the rows that a request wants to see, in the worst case. */
  #roomFor(request: GenerationRequest): OutputRoom | undefined {
    const bytes = request.returns ? outputLayout(request, this.description).bytes : 0;
    return bytes > 0 ? this.#options.outputs.open(request.id, bytes) : undefined;
  }

  #lease(adapter: AdapterReference): AdapterLease {
    const { adapters } = this.#options;
    if (adapters) return adapters.lease(adapter);
    throw adaptersUnsupported(this.description.device);
  }

  #checkSize(sequence: Sequence): void {
    const { beams } = sequence.owner.request;
    if (beams) this.#checkBeams(sequence, beams.width);
    if (sequence.positionsWorst <= this.#cache.positionsMax) return;
    throw new RuntimeError(
      'REQUEST_TOO_LARGE',
      `prompt and maxTokens need ${sequence.positionsWorst} KV positions, but the cache has ${this.#cache.positionsMax}; ` +
        "lower maxTokens, or raise the engine's KV bytes",
    );
  }

  #checkBeams({ positionsWorst }: Sequence, width: number): void {
    const { capacityPolicy, sequencesMax } = this.#options;
    if (capacityPolicy.isPerStep) {
      const problem = `beam search does not go with the capacity policy ${capacityPolicy.name}, which pauses sequences`;
      throw new RuntimeError('REQUEST_INVALID', `${problem}; start the engine with guaranteed_no_evict`);
    }
    if (width > sequencesMax) {
      const message = `beams.width is ${width}, but the engine runs ${sequencesMax} sequences; send less, or raise its --max-sequences`;
      throw new RuntimeError('REQUEST_INVALID', message);
    }
    const { chunkPositions } = this.#cache;
    // Blocks are whole.
    const positions = Math.ceil(positionsWorst / chunkPositions) * chunkPositions * width;
    if (positions <= this.#cache.positionsMax) return;
    const problem = `${width} beams need ${positions} KV positions, but the cache has ${this.#cache.positionsMax}`;
    throw new RuntimeError('REQUEST_TOO_LARGE', `${problem}; send a smaller width or maxTokens`);
  }

  /** Fills the pipeline as far as there is work that does not wait for what is in it. */
  #launch(): void {
    while (!this.#pipeline.isFull && this.#fatal === undefined) {
      const planned = this.#pipeline.nextPart() ?? this.#plan();
      const hasRows = planned.sequences.length > 0;
      if (!hasRows && (!this.#cache.hasOperations || this.#pipeline.inFlight > 0)) return;
      this.#guidance?.flush();
      // A device that computes in the launch itself does so here; others at the collection.
      this.#trace.begin(phases.compute);
      const refused = this.#pipeline.launch(planned);
      this.#trace.end(phases.compute);
      if (refused) this.#refuse(refused.sequence, refused.error);
    }
  }

  #plan(): PlannedRows<Sequence> {
    this.#trace.begin(phases.admission);
    this.#admission.apply((sequence, error) => this.#failRequest(sequence.owner, error));
    this.#trace.end(phases.admission);
    this.#trace.begin(phases.schedule);
    const planned = this.#planned;
    planBatch(this.#table.running.items, this.#options.batchTokensMax, planned, this.#stages);
    this.#speculation.extend(planned, this.#options.batchTokensMax);
    this.#ensureRoom();
    this.#trace.end(phases.schedule);
    return planned;
  }

  /** Under `max_utilization` a sequence may have to wait until another that is paused has left its memory. */
  #ensureRoom(): void {
    const { capacityPolicy } = this.#options;
    if (!capacityPolicy.isPerStep) return;
    const { sequences, rows } = this.#planned;
    let kept = 0;
    for (let index = 0; index < sequences.length; index++) {
      const sequence = sequences[index] as Sequence;
      let own = rows[index] as number;
      const place = definite(sequence.place, 'a running sequence has a place');
      const reserved = capacityPolicy.reservation(sequence);
      if (!this.#cache.append(place, Math.max(sequence.launched + own, reserved))) {
        // Drafts alone wait for no memory.
        own = Math.min(own, sequence.rowsReady);
        if (!this.#cache.append(place, Math.max(sequence.launched + own, reserved))) continue;
      }
      sequences[kept] = sequence;
      rows[kept++] = own;
    }
    sequences.length = kept;
    rows.length = kept;
  }

  #complete({ step, result }: CollectedStep, startNs: number): void {
    this.#trace.end(phases.compute);
    this.#trace.begin(phases.sample);
    this.#completion.take(step, result.output);
    this.#guidance?.flush();
    this.#trace.end(phases.sample);
    if (step.sequences.length > 0) {
      this.#failedSteps = 0;
      this.#counters.steps++;
      this.#counters.computeNs += result.computeNs;
      const ns = this.#options.clock.nowNs() - startNs;
      this.#counters.stepNs += ns;
      if (this.#speculation.isOn) this.#speculation.noteStep(step.sequences, step.rows, step.drafts, ns);
    }
    this.#events.flush();
    this.#endStep();
  }

  /** The device refuses one sequence's rows, though nothing else was in the step. */
  #refuse(sequence: Sequence, error: unknown): void {
    this.#failedSteps++;
    if (this.#failedSteps >= failedStepsMax) throw error;
    this.#failRequest(sequence.owner, error);
  }

  #failRequest(request: ActiveRequest, error: unknown): void {
    const own = error instanceof NereidError ? error : engineFailed(error);
    for (const sequence of request.sequences) this.#table.finish(sequence, 'error', own);
  }

  /** A step could not be launched or did not come back: its requests fail, or all do if the device is lost. */
  #fail(thrown: unknown): void {
    const step = this.#pipeline.abandon();
    for (const sequence of step?.sequences ?? []) sequence.inFlight--;
    this.#failedSteps++;
    const isFatal = !step || !isSurvivable(thrown) || this.#failedSteps >= failedStepsMax;
    const failed = isFatal
      ? [...this.#table.requests.values()]
      : new Set(step.sequences.map(({ owner }) => owner));
    if (isFatal) this.#fatal = thrown ?? engineFailed(thrown);
    for (const request of failed) this.#failRequest(request, isFatal ? engineFailed(thrown) : thrown);
    if (step) this.#completion.settle(step);
    if (isFatal) this.#pipeline.abandonAll();
    this.#events.flush();
    this.#endStep();
    if (!isFatal) return;
    if (!this.#options.onFatal) throw thrown;
    this.#options.onFatal(thrown);
  }
}

function engineFailed(cause: unknown): RuntimeError {
  return new RuntimeError(
    'ENGINE_FAILED',
    `the engine failed: ${messageOf(cause)}; the request was lost and may be sent again`,
    { cause },
  );
}
