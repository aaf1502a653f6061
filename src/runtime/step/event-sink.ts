import { NereidError } from '../../base/errors.ts';
import type { RequestStart, SequenceEvent, TokenLogprobs } from '../requests/events.ts';
import type { Sequence } from '../sequences/sequence.ts';

/** Collects one step's events; one event a sequence, in order of their first mention. */
export class EventSink {
  readonly #emit: (events: SequenceEvent[]) => void;
  #events: SequenceEvent[] = [];
  #bySequence = new Map<Sequence, SequenceEvent>();

  constructor(emit: (events: SequenceEvent[]) => void) {
    this.#emit = emit;
  }

  get isEmpty(): boolean {
    return this.#events.length === 0;
  }

  /** The sequence's event of this step. */
  event(sequence: Sequence): SequenceEvent {
    let event = this.#bySequence.get(sequence);
    if (!event) {
      event = { requestId: sequence.owner.request.id, sequence: sequence.index, tokens: [] };
      this.#bySequence.set(sequence, event);
      this.#events.push(event);
    }
    return event;
  }

  token(sequence: Sequence, token: number, logprobs?: TokenLogprobs): void {
    const event = this.event(sequence);
    event.tokens.push(token);
    if (logprobs) {
      event.logprobs ??= [];
      event.logprobs.push(logprobs);
    }
  }

  start(sequence: Sequence, start: RequestStart): void {
    this.event(sequence).start = start;
  }

  finish(sequence: Sequence, error?: unknown): void {
    const event = this.event(sequence);
    event.finish = sequence.finish;
    if (error !== undefined) event.error = errorFields(error);
  }

  /** Hands everything over as one array. */
  flush(): void {
    if (this.isEmpty) return;
    const events = this.#events;
    this.#events = [];
    this.#bySequence = new Map();
    this.#emit(events);
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
