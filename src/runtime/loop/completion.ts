import type { Clock } from '../../base/clock.ts';
import { definite } from '../../base/errors.ts';
import { type StepOutput, want } from '../../device/step.ts';
import { type PhaseRecorder, phases } from '../../trace/phases.ts';
import { RuntimeError } from '../errors.ts';
import type { SequenceGuide } from '../guidance/sequence-guide.ts';
import { StepPatience } from '../guidance/step-patience.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import type { RequestOutputs } from '../outputs/request-outputs.ts';
import type { TokenLogprobs } from '../requests/events.ts';
import { Sampler } from '../sampling/sampler.ts';
import { BeamGroup, type BeamHost, type BeamText } from '../sequences/beam-group.ts';
import type { ActiveRequest, Sequence } from '../sequences/sequence.ts';
import { RejectionSampler } from '../speculation/rejection-sampler.ts';
import type { LaunchedStep } from '../step/assembler.ts';
import { DraftRows, type DraftSink } from '../step/consumers/draft-rows.ts';
import { PromptRowConsumer, type PromptSink } from '../step/consumers/prompt-row.ts';
import { TokenConsumer, type TokenSink } from '../step/consumers/token.ts';
import type { EventSink } from '../step/event-sink.ts';
import type { DraftConsumer, RowConsumer, RowPlace } from '../step/row-consumer.ts';
import type { EngineCounters } from './counters.ts';
import type { SequenceTable } from './sequence-table.ts';

/** What completion is told. */
export interface CompletionOptions {
  cache: KvCache;
  table: SequenceTable;
  events: EventSink;
  counters: EngineCounters;
  clock: Clock;
  trace: PhaseRecorder;
  vocabularySize: number;
  /** A step's rows together wait so long for masks that are late; then theirs are put off, and the others go on. */
  lateMaskWaitMs: number;
  /** A deferred row may go on. */
  onAnswers(): void;
  /** Hears what became of drafts. */
  drafts: DraftSink;
}

/** Makes collected steps into tokens, events and committed KV. */
export class Completion implements TokenSink, PromptSink, DraftSink, BeamHost {
  readonly #options: CompletionOptions;
  readonly #deferred = new Set<Sequence>();
  readonly #patience: StepPatience;
  readonly sampler: Sampler;
  readonly vocabularySize: number;
  readonly #place: RowPlace = { row: 0, logits: -1, logprobs: -1, hidden: -1 };

  constructor(options: CompletionOptions) {
    this.#options = options;
    this.#patience = new StepPatience(options.clock, options.lateMaskWaitMs);
    this.sampler = new Sampler(options.vocabularySize);
    this.vocabularySize = options.vocabularySize;
  }

  /** Sequences whose logits wait for what their guides say. */
  get deferredCount(): number {
    return this.#deferred.size;
  }

  /** Whether {@link resume} would choose a token. */
  get canResume(): boolean {
    if (this.#deferred.size === 0) return false;
    // A word from the guides may have been about another sequence: who still waits asks again.
    for (const sequence of this.#deferred) if (!sequence.deferred || isAnswered(sequence)) return true;
    return false;
  }

  /** Chooses the tokens of rows that waited for their guides, as far as those have answered. */
  resume(): void {
    if (this.#deferred.size === 0) return;
    for (const sequence of [...this.#deferred]) {
      if (sequence.deferred && !isAnswered(sequence)) continue;
      this.#deferred.delete(sequence);
      // Without its logits it was ended or paused meanwhile.
      if (sequence.deferred) definite(sequence.consumer, 'a consumer').resume?.();
    }
  }

  /** Gives each sequence of a request what makes tokens of its output rows. */
  attach(request: ActiveRequest): void {
    const group = request.request.beams && new BeamGroup(request, this);
    for (const sequence of request.sequences) {
      sequence.consumer = group ? group.consumer(sequence) : this.#tokenConsumer(sequence);
    }
  }

  #tokenConsumer(sequence: Sequence): RowConsumer {
    return new TokenConsumer(sequence, this.sampler, this.#options.vocabularySize, this);
  }

  promptConsumer(sequence: Sequence, position: number): RowConsumer {
    return new PromptRowConsumer(sequence, position, this.#options.vocabularySize, this);
  }

  /** What verifies a sequence's drafts. */
  draftConsumer(sequence: Sequence, drafts: readonly number[]): DraftConsumer {
    const rule = this.#rejectionOf(sequence);
    const tokens = new TokenConsumer(sequence, rule ?? this.sampler, this.#options.vocabularySize, this);
    return new DraftRows(sequence, drafts, tokens, this, rule !== undefined);
  }

  /** Of drafts that came with the request and their logits, where a draw could differ from them in more than the token. */
  #rejectionOf(sequence: Sequence): RejectionSampler | undefined {
    const { request, sampling } = sequence.owner;
    const { draft, guide } = request;
    if (!draft?.logits || sequence.generated > 0 || sampling.isGreedy || guide) return undefined;
    return new RejectionSampler(this.sampler, draft, draft.logits, sequence);
  }

  take(step: LaunchedStep, output: StepOutput): void {
    this.#patience.begin();
    this.#commit(step);
    this.#consume(step, output);
    if (step.hasDrafts) this.#truncate(step);
    this.settle(step);
  }

  /** Lets sequences of a step that is over go, if they were waiting for that. */
  settle({ sequences }: LaunchedStep): void {
    if (this.#options.table.leaving === 0) return;
    for (const sequence of sequences) this.#options.table.settle(sequence);
  }

  /** The step wrote more positions of its sequences; what it wrote of ended ones nobody will look for. */
  #commit({ sequences, rows, drafts }: LaunchedStep): void {
    const { cache } = this.#options;
    for (let index = 0; index < sequences.length; index++) {
      const sequence = sequences[index] as Sequence;
      sequence.inFlight--;
      if (sequence.state === 'finished' || !sequence.place) continue;
      sequence.committed += (rows[index] as number) - (drafts[index] as number);
      cache.commit(sequence.place, sequence, sequence.committed);
    }
  }

  /** Of the drafts' positions those stay whose drafts held: what lies behind them will be written again. */
  #truncate({ sequences, drafts }: LaunchedStep): void {
    for (let index = 0; index < sequences.length; index++) {
      const sequence = sequences[index] as Sequence;
      if (drafts[index] === 0 || sequence.state === 'finished' || !sequence.place) continue;
      // The token that a late guide holds back is not there, but the row that gives it was computed.
      sequence.committed = sequence.deferred ? sequence.length : sequence.length - 1;
      sequence.launched = sequence.committed;
      this.#options.cache.commit(sequence.place, sequence, sequence.committed);
    }
  }

  #consume({ consumers, wants }: LaunchedStep, output: StepOutput): void {
    const place = this.#place;
    const places = output.logits?.places;
    const hiddenPlaces = output.rowHidden?.places;
    let logprobs = 0;
    for (let row = 0; row < consumers.length; row++) {
      const wanted = wants[row] as number;
      place.row = row;
      place.logits = wanted & want.logits ? (places ? (places[row] as number) : row) : -1;
      place.logprobs = wanted & want.logprobs ? logprobs++ : -1;
      place.hidden = wanted & want.hidden ? (hiddenPlaces ? (hiddenPlaces[row] as number) : row) : -1;
      (consumers[row] as RowConsumer).take(output, place);
    }
  }

  token(sequence: Sequence, token: number, logprobs: TokenLogprobs | undefined): void {
    const { owner } = sequence;
    const { events, table, counters } = this.#options;
    if (!owner.isStarted) this.#start(sequence);
    events.token(sequence, token, logprobs);
    counters.generatedTokens++;
    sequence.push(token);
    if (owner.outputs) this.#showTokens(sequence, owner.outputs);
    // Asked for now, the answer is there when the device has the next logits.
    sequence.guide?.accept(token);
    if (owner.stopTokens.has(token) && sequence.generated >= owner.request.minTokens) {
      table.finish(sequence, 'stop');
    } else if (sequence.length >= sequence.positionsWorst) table.finish(sequence, 'length');
    if (owner.isPromptComputed) return;
    owner.isPromptComputed = true;
    table.enqueueReady(owner);
  }

  isAnswered(guide: SequenceGuide): boolean {
    return this.#patience.isAnswered(guide);
  }

  /** All tokens of the step's event, as it stands now. */
  #showTokens(sequence: Sequence, outputs: RequestOutputs): void {
    const { index, generated, event } = sequence;
    const count = event?.tokens.length ?? 0;
    this.#options.events.outputs(sequence, outputs.ofTokens(index, generated - count, count));
  }

  promptDone(sequence: Sequence): void {
    const { owner } = sequence;
    this.#start(sequence);
    owner.isPromptComputed = true;
    const embedding = owner.outputs?.embedding();
    if (embedding?.some((value) => !Number.isFinite(value))) {
      this.failed(sequence, noEmbedding());
      return;
    }
    if (embedding) this.#options.events.embedding(sequence, embedding);
    this.#options.table.finish(sequence, 'length');
  }

  complete(sequence: Sequence): void {
    if (!sequence.owner.isStarted) this.#start(sequence);
    this.#options.table.finish(sequence, 'stop');
    this.#options.table.enqueueReady(sequence.owner);
  }

  deferred(sequence: Sequence): void {
    this.#deferred.add(sequence);
    if (isAnswered(sequence)) this.#options.onAnswers();
  }

  hidden(sequence: Sequence, values: Float32Array, row: number): void {
    this.#options.drafts.hidden(sequence, values, row);
  }

  verified(sequence: Sequence, drafts: number, accepted: number): void {
    this.#options.drafts.verified(sequence, drafts, accepted);
    this.#options.events.countDrafts(sequence);
  }

  /** Places are given back before any is taken: each fork takes at most what one of them had. */
  fork(moves: readonly { from: Sequence; to: Sequence }[]): void {
    const { cache } = this.#options;
    for (const { to } of moves) cache.release(definite(to.place, 'a place'), to, false);
    for (const { from, to } of moves) {
      const fork = { place: definite(from.place, 'a place'), length: from.committed };
      const { prefixKey, promptLength, length } = from;
      const demand = {
        prefixKey,
        tokens: from,
        reusableMax: length,
        fork,
        promptLength,
        retention: from.owner.request.retention,
      };
      to.place = cache.reserve(demand, to.positionsWorst);
      to.adopt(from);
      to.launched = from.committed;
      to.committed = from.committed;
    }
  }

  finished(owner: ActiveRequest, texts: readonly BeamText[]): void {
    const { events, table, counters } = this.#options;
    if (!owner.isStarted) this.#start(definite(owner.sequences[0], 'a beam'));
    for (const [index, sequence] of owner.sequences.entries()) {
      const text = texts[index];
      if (text && index < owner.request.sequences) {
        const isReported = owner.sampling.logprobs >= 0;
        for (const [at, token] of text.tokens.entries()) {
          events.token(sequence, token, isReported ? text.logprobs[at] : undefined);
        }
        events.beam(sequence, { cumulativeLogprob: text.sum, score: text.score });
        counters.generatedTokens += text.tokens.length;
      }
      table.finish(sequence, text?.finish ?? 'length');
    }
  }

  failed(sequence: Sequence, error: RuntimeError): void {
    for (const one of sequence.owner.sequences) this.#options.table.finish(one, 'error', error);
  }

  #start(sequence: Sequence): void {
    const { owner } = sequence;
    owner.isStarted = true;
    this.#options.trace.end(phases.prefill, owner.request.id);
    this.#options.trace.begin(phases.decode, owner.request.id);
    this.#options.events.start(sequence, {
      seed: owner.seed,
      cachedTokens: owner.cachedTokens,
      queuedMs: (owner.startNs - owner.arrivalNs) / 1e6,
      prefillMs: (this.#options.clock.nowNs() - owner.startNs) / 1e6,
      promptLogprobs: owner.promptLogprobs,
    });
    if (owner.outputs) this.#options.events.outputs(sequence, owner.outputs.ofContext());
  }
}

function noEmbedding(): RuntimeError {
  const problem = 'the hidden states of this prompt hold NaN or infinity, so there is no embedding of it';
  return new RuntimeError(
    'LOGITS_INVALID',
    `${problem}; try the engine with another type of weights or KV cache`,
  );
}

/** Whether a sequence's guide has answered; if not, we are told of the next answer, be it this one's or another's. */
function isAnswered({ guide }: Sequence): boolean {
  guide?.await();
  // Only now: it may have answered between a look and the wish to be told.
  return guide?.isAnswered ?? true;
}
