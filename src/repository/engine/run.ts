import type { Clock } from '../../base/clock.ts';
import { engineError } from '../../generation/errors.ts';
import { LateStopStrings } from '../../generation/late-stop-strings.ts';
import type { RequestHandle } from '../../runtime/client.ts';
import { type OutputRows, outputRows } from '../../runtime/outputs/output-rows.ts';
import type { RequestStart, SequenceEvent } from '../../runtime/requests/events.ts';
import { StopStringMatcher } from '../../tokenizer/stop-strings.ts';
import type { IncrementalDecoder, Tokenizer } from '../../tokenizer/types.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import type { Tensor } from '../tensor.ts';
import type { GenerationPlan } from './generation.ts';
import { firstRows } from './logits.ts';
import type { SequenceOutput, SequenceResult } from './outputs.ts';
import { StopSequences } from './word-lists.ts';

/** What a sequence has made so far, and what ends it. */
interface OpenSequence {
  output: SequenceOutput;
  stops: StopSequences;
  texts: { decoder: IncrementalDecoder; matcher: StopStringMatcher | LateStopStrings } | undefined;
  isDone: boolean;
}

/** One row of a request in the engine: its sequences, each answered step by step or when it is done. */
export class RowRun {
  readonly #execution: Execution;
  readonly #isStreaming: boolean;
  readonly #clock: Clock;
  readonly #sequences: OpenSequence[];
  readonly #handOver: (outputs: Tensor[], isLast: boolean, sequence: number) => void;
  readonly #ended: (tokens: number) => void;
  /** Stop words that end within so many tokens are words like any other. */
  readonly #minTokens: number;
  #handle: RequestHandle | undefined;
  #start: RequestStart | undefined;
  #open: number;

  constructor(parts: {
    execution: Execution;
    plan: GenerationPlan;
    isStreaming: boolean;
    clock: Clock;
    tokenizer: Tokenizer | undefined;
    output: (sequence: number) => SequenceOutput;
    /** Hands a response over; `isLast` of its sequence. */
    respond: (outputs: Tensor[], isLast: boolean, sequence: number) => void;
    /** Hears of each sequence that is done, with its number of tokens. */
    ended: (tokens: number) => void;
  }) {
    const { plan, tokenizer } = parts;
    this.#execution = parts.execution;
    this.#isStreaming = parts.isStreaming;
    this.#clock = parts.clock;
    this.#handOver = parts.respond;
    this.#ended = parts.ended;
    this.#minTokens = plan.request.minTokens;
    this.#open = plan.request.sequences;
    this.#sequences = Array.from({ length: plan.request.sequences }, (_, index) => ({
      output: parts.output(index),
      stops: new StopSequences(plan.stopSequences),
      texts:
        tokenizer && plan.stopTexts.length > 0
          ? {
              decoder: tokenizer.incrementalDecoder({ continuation: true }),
              matcher: new (this.#minTokens > 0 ? LateStopStrings : StopStringMatcher)(plan.stopTexts),
            }
          : undefined,
      isDone: false,
    }));
  }

  /** Tokens that its sequences have made. */
  get tokens(): number {
    return this.#sequences.reduce((sum, { output }) => sum + output.count, 0);
  }

  get isDone(): boolean {
    return this.#open === 0;
  }

  /** Set once the engine has taken it. */
  attach(handle: RequestHandle): void {
    this.#handle = handle;
  }

  /** Stops the engine's work. */
  cancel(): void {
    this.#handle?.cancel();
  }

  /** Ends every open sequence with what it has: a stop request. */
  stop(): void {
    this.cancel();
    this.#sequences.forEach((sequence) => {
      if (!sequence.isDone) this.#finish(sequence);
    });
  }

  accept(event: SequenceEvent): void {
    if (this.#execution.isOver) return;
    if (event.start) this.#begun(event.start, outputRows(event.outputs, 'contextLogits'));
    const sequence = this.#sequences[event.sequence];
    if (!sequence || sequence.isDone) return;
    if (event.finish === 'error' || event.finish === 'cancelled') {
      this.#fail(event);
      return;
    }
    if (event.drafts) sequence.output.drafts = event.drafts;
    const before = sequence.output.count;
    const isStopped = this.#append(sequence, event);
    const logits = outputRows(event.outputs, 'generationLogits');
    // What follows a stop word is not shown.
    if (logits) sequence.output.pushLogits(firstRows(logits, sequence.output.count - before));
    if (event.beam) sequence.output.sum = event.beam.cumulativeLogprob;
    if (isStopped && event.finish === undefined) this.#handle?.cancel(event.sequence);
    if (isStopped || event.finish !== undefined) this.#finish(sequence);
    else if (this.#isStreaming && sequence.output.hasNews) this.#respond(sequence, false);
  }

  #begun(start: RequestStart, contextLogits: OutputRows | undefined): void {
    this.#start = start;
    const nowNs = this.#clock.nowNs();
    this.#execution.begin(nowNs - start.prefillMs * 1e6);
    for (const { output } of this.#sequences) output.begun(nowNs, contextLogits);
  }

  /** @returns whether a stop word ended it */
  #append(sequence: OpenSequence, event: SequenceEvent): boolean {
    const { output, stops, texts } = sequence;
    for (const [index, id] of event.tokens.entries()) {
      output.push(id, event.logprobs?.[index]?.logprob);
      const mayStop = output.count > this.#minTokens;
      if (stops.push(id) && mayStop) return true;
      if (texts?.matcher.push(texts.decoder.push(id), mayStop).stopped !== undefined) return true;
    }
    return false;
  }

  #finish(sequence: OpenSequence): void {
    sequence.isDone = true;
    this.#open--;
    this.#ended(sequence.output.count);
    this.#respond(sequence, true);
  }

  #respond(sequence: OpenSequence, isLast: boolean): void {
    const result: SequenceResult = { isLast, start: this.#start, nowNs: this.#clock.nowNs() };
    this.#handOver(
      sequence.output.take(this.#isStreaming, result),
      isLast,
      this.#sequences.indexOf(sequence),
    );
  }

  #fail(event: SequenceEvent): void {
    const cause =
      event.finish === 'cancelled' ? new Error('the engine is shutting down') : engineError(event.error);
    const problem = `Executor failed process requestId ${event.requestId} due to the following error: ${cause.message}`;
    this.#execution.fail(new RepositoryError('INTERNAL', problem, { cause }));
    this.#execution.onCancel?.();
  }
}
