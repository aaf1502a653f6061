import { type Clock, systemClock } from '../base/clock.ts';
import { definite, messageOf, NereidError } from '../base/errors.ts';
import type { EngineClient, RequestHandle } from '../runtime/client.ts';
import type { Guide } from '../runtime/guidance/guide.ts';
import type { Retention } from '../runtime/kv/retention.ts';
import type { RequestStart, SequenceEvent } from '../runtime/requests/events.ts';
import type {
  AdapterReference,
  DraftTokens,
  RequestReturns,
  RequestSpeculation,
  SamplingParameters,
} from '../runtime/requests/request.ts';
import type { BeamParameters } from '../runtime/sequences/beam-search.ts';
import type { Tokenizer } from '../tokenizer/types.ts';
import { phases } from '../trace/phases.ts';
import { threadTracer } from '../trace/process-tracer.ts';
import { engineError, GenerationError } from './errors.ts';
import { DeltaJoiner } from './joined-deltas.ts';
import { type GenerationDelta, SequenceText } from './sequence-text.ts';

export type { GenerationDelta } from './sequence-text.ts';

/** An engine (or a pool of them) and the vocabulary that its tokens are of. */
export interface TextModel {
  readonly client: EngineClient;
  readonly tokenizer: Tokenizer;
  /** A LoRA adapter of the engine's, to generate with. */
  readonly adapter?: AdapterReference;
  /** Steps of a sequence that are joined to one delta, but for the first and the last. Default 1: every step is a delta. */
  readonly streamInterval?: number;
}

/** A text generation as every protocol asks for it. Checked by the protocol; the engine checks again what concerns it. */
export interface GenerationInput {
  promptTokens: Int32Array;
  sampling: SamplingParameters;
  maxTokens: number;
  minTokens: number;
  /** Further ids that end a sequence, beside the model's own. */
  stopTokenIds: readonly number[];
  /** Goes on after the model's own end-of-text ids. */
  ignoreEos: boolean;
  stopStrings: readonly string[];
  includeStopString: boolean;
  skipSpecialTokens: boolean;
  sequences: number;
  /** As in `GenerationRequest`. */
  logprobs?: number;
  promptLogprobs?: number;
  cacheSalt?: string;
  /** What the texts must look like. */
  guide?: Guide;
  retention?: Retention;
  priority: number;
  /** As in `GenerationRequest`. */
  prediction?: Int32Array;
  speculation?: RequestSpeculation;
  draft?: DraftTokens;
  beams?: BeamParameters;
  returns?: RequestReturns;
}

/** Token counts of a finished (or cancelled) generation. */
export interface GenerationUsage {
  promptTokens: number;
  cachedTokens: number;
  /** Over all sequences; a stop id counts. */
  completionTokens: number;
  /** Tokens that were guessed ahead and verified, and those of them that held; absent where there were none. */
  drafts?: { proposed: number; accepted: number };
}

/** How the parts of a generation reach its protocol. Calls come in the order of the engine's steps; none after `end` or `fail`. */
export interface GenerationListener {
  /** Once, before the first delta. */
  start?(start: RequestStart): void;
  delta(delta: GenerationDelta): void;
  end(usage: GenerationUsage): void;
  /** The engine failed it, or was shut down under it. */
  fail(error: NereidError): void;
}

/** When a generation's parts happened, for metrics. Seconds. */
export interface GenerationRecord {
  outcome: 'stop' | 'length' | 'abort' | 'error';
  usage: GenerationUsage;
  sequences: number;
  maxTokens: number;
  endToEndSeconds: number;
  /** When it ended, on the generation's clock. */
  endedNs: number;
  /** From the engine's own clock; absent if it never started. */
  queuedSeconds?: number;
  prefillSeconds?: number;
  /** From the first token to the last one. */
  decodeSeconds?: number;
}

/** What is measured while a generation runs. */
export interface GenerationObserver {
  firstToken(seconds: number): void;
  interToken(seconds: number): void;
  finished(record: GenerationRecord): void;
}

/** What a generation reports to, and the time it reads. */
export interface GenerationOptions {
  observer?: GenerationObserver;
  clock?: Clock;
  /** When the request arrived, on `clock`; default: now. */
  arrivedNs?: number;
}

/**
 * One text generation over a {@link TextModel}'s engine: detokenizes, finds stop strings (and then cancels just that sequence),
 * counts and times. Callbacks rather than async iterators, since this runs for every token of every stream.
 */
export class Generation {
  readonly #listener: GenerationListener;
  readonly #input: GenerationInput;
  readonly #observer: GenerationObserver | undefined;
  readonly #clock: Clock;
  readonly #arrivedNs: number;
  readonly #sequences: SequenceText[];
  /** By sequence; none where each step is a delta. */
  readonly #joiners: readonly DeltaJoiner[];
  readonly #lastTokenNs: Float64Array;
  readonly #handle: RequestHandle;
  #open: number;
  #closed = false;
  #start: RequestStart | undefined;
  readonly #drafts = { proposed: 0, accepted: 0 };
  #firstTokenNs: number | undefined;
  #outcome: 'stop' | 'length' = 'length';

  /**
   * Submits at once.
   * @throws RuntimeError `QUEUE_FULL`, `PROMPT_TOO_LONG`, `REQUEST_INVALID`, `ENGINE_UNAVAILABLE`; TokenizerError STOP_STRING_INVALID
   */
  constructor(
    model: TextModel,
    input: GenerationInput,
    listener: GenerationListener,
    options: GenerationOptions = {},
  ) {
    this.#listener = listener;
    this.#input = input;
    this.#observer = options.observer;
    this.#clock = options.clock ?? systemClock;
    this.#arrivedNs = options.arrivedNs ?? this.#clock.nowNs();
    const text = {
      tokenizer: model.tokenizer,
      stopStrings: input.stopStrings,
      requestStopTokenIds: input.stopTokenIds,
      minTokens: input.minTokens,
      includeStopString: input.includeStopString,
      skipSpecialTokens: input.skipSpecialTokens,
    };
    this.#sequences = Array.from({ length: input.sequences }, (_, index) => new SequenceText(index, text));
    const { streamInterval = 1 } = model;
    const joinerCount = streamInterval > 1 ? input.sequences : 0;
    this.#joiners = Array.from({ length: joinerCount }, () => new DeltaJoiner(streamInterval));
    this.#lastTokenNs = new Float64Array(input.sequences);
    this.#open = input.sequences;
    const modelStops = input.ignoreEos ? [] : model.tokenizer.stopTokenIds;
    this.#handle = model.client.submit(
      {
        promptTokens: input.promptTokens,
        sampling: input.sampling,
        maxTokens: input.maxTokens,
        minTokens: input.minTokens,
        stopTokenIds: [...new Set([...modelStops, ...input.stopTokenIds])],
        sequences: input.sequences,
        logprobs: input.logprobs,
        promptLogprobs: input.promptLogprobs,
        guide: input.guide,
        cacheSalt: input.cacheSalt,
        adapter: model.adapter,
        retention: input.retention,
        priority: input.priority,
        prediction: input.prediction,
        speculation: input.speculation,
        draft: input.draft,
        beams: input.beams,
        returns: input.returns,
      },
      (event) => this.#guarded(event),
    );
    threadTracer.begin(phases.request, this.#handle.id, this.#clock.nowNs() - this.#arrivedNs);
  }

  /** Ends it for good: the engine plans it no more and the listener hears no more of it. Harmless when it is over. */
  cancel(): void {
    if (this.#closed) return;
    this.#close('abort');
    this.#handle.cancel();
  }

  /** The engine's id of it, for the tracer. */
  get requestId(): number {
    return this.#handle.id;
  }

  /** Token counts so far. */
  get usage(): GenerationUsage {
    let completionTokens = 0;
    for (const sequence of this.#sequences) completionTokens += sequence.tokenCount;
    const cachedTokens = this.#start?.cachedTokens ?? 0;
    const { length: promptTokens } = this.#input.promptTokens;
    const counts = { promptTokens, cachedTokens, completionTokens };
    return this.#drafts.proposed > 0 ? { ...counts, drafts: { ...this.#drafts } } : counts;
  }

  /** A bug in here or in a protocol must cost one request, not the process. */
  #guarded(event: SequenceEvent): void {
    try {
      this.#accept(event);
    } catch (cause) {
      if (this.#closed) return;
      const error = cause instanceof NereidError ? cause : unexpected(cause);
      this.#fail(error);
    }
  }

  #accept(event: SequenceEvent): void {
    if (this.#closed) return;
    if (event.start) {
      this.#start = event.start;
      this.#listener.start?.(event.start);
    }
    if (event.drafts) {
      this.#drafts.proposed += event.drafts.proposed;
      this.#drafts.accepted += event.drafts.accepted;
    }
    const sequence = definite(this.#sequences[event.sequence], `sequence ${event.sequence} of an event`);
    // After a stop string the engine still reports what it had in flight.
    if (sequence.finished) return;
    if (event.finish === 'error' || event.finish === 'cancelled') {
      this.#sendHeld();
      if (this.#closed) return;
      this.#fail(event.finish === 'error' ? engineError(event.error) : cancelledByEngine());
      return;
    }
    if (event.tokens.length > 0) this.#time(event.sequence);
    threadTracer.begin(phases.detokenize, event.requestId);
    const made = sequence.accept(event);
    threadTracer.end(phases.detokenize, event.requestId);
    const joiner = this.#joiners[event.sequence];
    const delta = joiner ? joiner.push(made) : made;
    if (!delta) return;
    if (!sequence.finished) {
      this.#listener.delta(delta);
      return;
    }
    this.#open--;
    if (delta.finish === 'stop') this.#outcome = 'stop';
    if (event.finish === undefined) this.#handle.cancel(event.sequence);
    this.#listener.delta(delta);
    // The listener may have cancelled.
    if (this.#open > 0 || this.#closed) return;
    this.#close(this.#outcome);
    this.#listener.end(this.usage);
  }

  /** What the engine made before it failed is the client's all the same. */
  #sendHeld(): void {
    for (const joiner of this.#joiners) {
      const held = joiner.flush();
      if (held && !this.#closed) this.#listener.delta(held);
    }
  }

  #fail(error: NereidError): void {
    this.#close('error');
    this.#handle.cancel();
    this.#listener.fail(error);
  }

  #time(sequence: number): void {
    const nowNs = this.#clock.nowNs();
    if (this.#firstTokenNs === undefined) {
      this.#firstTokenNs = nowNs;
      this.#observer?.firstToken((nowNs - this.#arrivedNs) / 1e9);
    }
    const lastNs = this.#lastTokenNs[sequence] as number;
    if (lastNs > 0) this.#observer?.interToken((nowNs - lastNs) / 1e9);
    this.#lastTokenNs[sequence] = nowNs;
  }

  #close(outcome: GenerationRecord['outcome']): void {
    this.#closed = true;
    threadTracer.end(phases.request, this.#handle.id);
    if (!this.#observer) return;
    const nowNs = this.#clock.nowNs();
    const record: GenerationRecord = {
      outcome,
      usage: this.usage,
      sequences: this.#input.sequences,
      maxTokens: this.#input.maxTokens,
      endToEndSeconds: (nowNs - this.#arrivedNs) / 1e9,
      endedNs: nowNs,
    };
    if (this.#start) {
      record.queuedSeconds = this.#start.queuedMs / 1e3;
      record.prefillSeconds = this.#start.prefillMs / 1e3;
    }
    if (this.#firstTokenNs !== undefined) {
      record.decodeSeconds = (Math.max(...this.#lastTokenNs) - this.#firstTokenNs) / 1e9;
    }
    this.#observer.finished(record);
  }
}

function cancelledByEngine(): GenerationError {
  const message = 'the engine ended this request before it was done (it is shutting down); send it again';
  return new GenerationError('SERVER_SHUTTING_DOWN', message);
}

function unexpected(cause: unknown): GenerationError {
  return new GenerationError('REQUEST_FAILED', `the answer could not be put together: ${messageOf(cause)}`, {
    cause,
  });
}
