import { NereidError } from '../../base/errors.ts';
import type { Outputs } from '../outputs/output-rows.ts';
import { joinOutputs } from '../outputs/request-outputs.ts';
import type { RequestStart, SequenceEvent, TokenLogprobs } from '../requests/events.ts';
import type { Sequence } from '../sequences/sequence.ts';

/** Collects one step's events; one event a sequence, in order of their first mention. */
export class EventSink {
  readonly #emit: (events: SequenceEvent[]) => void;
  #events: SequenceEvent[] = [];
  #sequences: Sequence[] = [];

  constructor(emit: (events: SequenceEvent[]) => void) {
    this.#emit = emit;
  }

  get isEmpty(): boolean {
    return this.#events.length === 0;
  }

  token(sequence: Sequence, token: number, logprobs?: TokenLogprobs): void {
    const { event } = sequence;
    if (!event) this.#add(sequence, [token]).logprobs = logprobs && [logprobs];
    else {
      event.tokens.push(token);
      if (!logprobs) return;
      event.logprobs ??= [];
      event.logprobs.push(logprobs);
    }
  }

  start(sequence: Sequence, start: RequestStart): void {
    (sequence.event ?? this.#add(sequence, [])).start = start;
  }

  finish(sequence: Sequence, error?: unknown): void {
    // Beams beyond those that were asked for are nobody's.
    if (sequence.index >= sequence.owner.request.sequences) return;
    const event = sequence.event ?? this.#add(sequence, []);
    event.finish = sequence.finish;
    if (sequence.draftTokens > 0) this.countDrafts(sequence);
    if (error !== undefined) event.error = errorFields(error);
  }

  /** What a text of a beam search was ranked by. */
  beam(sequence: Sequence, beam: NonNullable<SequenceEvent['beam']>): void {
    (sequence.event ?? this.#add(sequence, [])).beam = beam;
  }

  /** Says how many drafts a sequence had, if it has ended. */
  countDrafts({ event, draftTokens: proposed, acceptedDraftTokens: accepted }: Sequence): void {
    if (event?.finish) event.drafts = { proposed, accepted };
  }

  /** What a request wants to see of its prompt or of these tokens. */
  outputs(sequence: Sequence, outputs: Outputs): void {
    const { event } = sequence;
    if (event) event.outputs = joinOutputs(event.outputs, outputs);
  }

  embedding(sequence: Sequence, embedding: Float32Array): void {
    if (sequence.event) sequence.event.embedding = embedding;
  }

  /** Hands everything over as one array. */
  flush(): void {
    if (this.isEmpty) return;
    const events = this.#events;
    for (const sequence of this.#sequences) sequence.event = undefined;
    this.#events = [];
    this.#sequences = [];
    this.#emit(events);
  }

  /** The sequence's event of this step; all fields at once, so that every event has one shape. */
  #add(sequence: Sequence, tokens: number[]): SequenceEvent {
    const event: SequenceEvent = {
      requestId: sequence.owner.request.id,
      sequence: sequence.index,
      tokens,
      logprobs: undefined,
      finish: undefined,
      start: undefined,
      drafts: undefined,
      beam: undefined,
      outputs: undefined,
      embedding: undefined,
      error: undefined,
    };
    sequence.event = event;
    this.#events.push(event);
    this.#sequences.push(sequence);
    return event;
  }
}

function errorFields(error: unknown): { code: string; kind: string; message: string } {
  if (error instanceof NereidError) return { code: error.code, kind: error.kind, message: error.message };
  return {
    code: 'ENGINE_FAILED',
    kind: 'internal',
    message: error instanceof Error ? error.message : String(error),
  };
}
