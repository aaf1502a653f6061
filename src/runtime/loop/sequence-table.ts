import { definite } from '../../base/errors.ts';
import { type PhaseRecorder, phases } from '../../trace/phases.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import { UrgencyQueue } from '../plan/urgency-queue.ts';
import type { FinishReason } from '../requests/events.ts';
import type { ActiveRequest, Sequence } from '../sequences/sequence.ts';
import type { EventSink } from '../step/event-sink.ts';

/** What the table needs of the engine. */
export interface SequenceTableOptions {
  cache: KvCache;
  events: EventSink;
  trace: PhaseRecorder;
  /** Whether finished sequences leave their KV for others. */
  prefixReuse: boolean;
  /** Places for sampling states on the device: as many as sequences may run. */
  samplingStates: number;
}

/** The engine's requests and where their sequences stand: waiting, running, or ended with rows still in flight. */
export class SequenceTable {
  readonly requests = new Map<number, ActiveRequest>();
  readonly waiting = new UrgencyQueue<Sequence>();
  readonly running = new UrgencyQueue<Sequence>();
  /** Requests of which nothing ran yet. */
  queuedRequests = 0;
  /** Waiting sequences of requests that have begun. */
  waitingOfBegun = 0;
  /** Sequences that were ended or are to be paused, whose memory is still being written. */
  leaving = 0;
  /** Something came, ended or was paused since the capacity policy last looked. */
  isChanged = true;
  readonly #options: SequenceTableOptions;
  readonly #freeStates: number[];

  constructor(options: SequenceTableOptions) {
    this.#options = options;
    this.#freeStates = Array.from({ length: options.samplingStates }, (_, index) => index).reverse();
  }

  add(request: ActiveRequest): void {
    this.requests.set(request.request.id, request);
    this.queuedRequests++;
  }

  /** Queues what of a request may start: its first sequence, and the others once the prompt is computed. */
  enqueueReady(request: ActiveRequest): void {
    // Beams are admitted with their first one.
    if (!request.isReady || (request.request.beams && request.sequences[0]?.state !== 'pending')) return;
    const isLed = request.sequences.some(({ state }) => state === 'waiting' || state === 'running');
    for (const sequence of request.sequences) {
      if (sequence.state !== 'pending') continue;
      if (!request.isPromptComputed && isLed) return;
      this.#wait(sequence);
      if (!request.isPromptComputed) return;
    }
  }

  /** A waiting sequence got its place in the cache. */
  start(sequence: Sequence): void {
    this.waiting.remove(sequence);
    if (isBegun(sequence)) this.waitingOfBegun--;
    this.running.add(sequence);
    sequence.state = 'running';
    this.isChanged = true;
  }

  /** A beam got its place together with the first of its request, and waits for what that says. */
  hold(sequence: Sequence): void {
    sequence.isHeld = true;
    this.running.add(sequence);
    sequence.state = 'running';
  }

  /** Gives a sequence a place for its sampling state on the device, to be filled with its next token. */
  giveSamplingState(sequence: Sequence): void {
    sequence.samplingState = definite(this.#freeStates.pop(), 'a sampling state for each running sequence');
    sequence.needsStateLoad = true;
  }

  /** Takes a running sequence's memory and queues it again, as soon as nothing of it is in flight. */
  pause(sequence: Sequence): void {
    if (sequence.isPausing) return;
    sequence.isPausing = true;
    if (sequence.inFlight === 0) this.#pauseNow(sequence);
    else this.leaving++;
  }

  /** Ends a sequence in whatever state it is, and its request with its last one. */
  finish(sequence: Sequence, reason: FinishReason, error?: unknown): void {
    const { state } = sequence;
    if (state === 'finished') return;
    if (state === 'waiting') {
      this.waiting.remove(sequence);
      if (isBegun(sequence)) this.waitingOfBegun--;
    }
    sequence.state = 'finished';
    sequence.finish = reason;
    this.isChanged = true;
    if (state === 'running') this.#leave(sequence);
    this.#options.events.finish(sequence, error);
    const { owner } = sequence;
    owner.unfinished--;
    if (owner.unfinished > 0) return;
    this.requests.delete(owner.request.id);
    if (owner.isStarted) this.#options.trace.end(phases.decode, owner.request.id);
    if (Number.isNaN(owner.startNs)) this.queuedRequests--;
    for (const prerequisite of owner.prerequisites) prerequisite.release();
  }

  /** A step with rows of the sequence was collected, and what it gave was taken: one that leaves may do so now. */
  settle(sequence: Sequence): void {
    if (sequence.inFlight > 0) return;
    if (sequence.state === 'finished') {
      if (!sequence.place) return;
      this.leaving--;
      this.#release(sequence);
    } else if (sequence.isPausing) {
      this.leaving--;
      this.#pauseNow(sequence);
    }
  }

  /** Memory that a step in flight writes to is given back when that step was collected. */
  #leave(sequence: Sequence): void {
    this.running.remove(sequence);
    const wasLeaving = sequence.isPausing;
    if (sequence.inFlight > 0) {
      if (!wasLeaving) this.leaving++;
      return;
    }
    if (wasLeaving) this.leaving--;
    this.#release(sequence);
  }

  #wait(sequence: Sequence): void {
    sequence.state = 'waiting';
    this.waiting.add(sequence);
    if (isBegun(sequence)) this.waitingOfBegun++;
    this.isChanged = true;
  }

  #pauseNow(sequence: Sequence): void {
    this.running.remove(sequence);
    this.#release(sequence);
    sequence.isPausing = false;
    this.#wait(sequence);
  }

  /** Gives a sequence's place in the cache back; what it computed stays for others unless it ended in an error. */
  #release(sequence: Sequence): void {
    const place = definite(sequence.place, 'a running sequence has a place');
    const retain = sequence.finish !== 'error' && this.#options.prefixReuse;
    this.#options.cache.release(place, sequence, retain);
    sequence.place = undefined;
    sequence.launched = 0;
    sequence.committed = 0;
    // The logits that wait for it are computed anew with the last token.
    if (sequence.deferred) {
      sequence.deferred = undefined;
      sequence.tokensInFlight--;
    }
    sequence.guide?.close();
    sequence.guide = undefined;
    if (sequence.samplingState >= 0) this.#freeStates.push(sequence.samplingState);
    sequence.samplingState = -1;
    this.isChanged = true;
  }
}

function isBegun({ owner }: Sequence): boolean {
  return !Number.isNaN(owner.startNs);
}
