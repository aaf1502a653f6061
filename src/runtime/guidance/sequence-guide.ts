import type { RuntimeError } from '../errors.ts';
import type { CompiledGrammar } from './compiled-grammar.ts';
import type { GuidanceThread } from './guidance-thread.ts';
import type { GuidanceCommand } from './worker-messages.ts';

/** Where a sequence's guide is followed: which thread, which place on its board. */
export interface GuidePlace {
  thread: GuidanceThread;
  place: number;
}

/** What a {@link SequenceGuide} is made of. */
export interface SequenceGuideOptions {
  grammar: CompiledGrammar;
  stopTokenIds: readonly number[];
  /** The sequence's own tokens so far; asked for when a thread takes it over. */
  outputTokens(): Int32Array;
  at: GuidePlace;
  onClose(guide: SequenceGuide): void;
}

/**
 * One running sequence's way through its grammar. Questions are numbered: an answer to an old one is none. Where drafts are to be verified, what
 * follows each of them is asked beforehand, and known as long as the sequence says what was drafted.
 */
export class SequenceGuide {
  readonly options: SequenceGuideOptions;
  /** It cannot be followed any further. */
  failure: RuntimeError | undefined;
  #at: GuidePlace;
  #ticket = 0;
  /** What was said since the thread last heard of it, while that message waits. */
  #untold: Extract<GuidanceCommand, { kind: 'accept' }> | undefined;
  #untoldAt = 0;
  /** Drafts, and how many of them were said. */
  #foreseen: { tokens: readonly number[]; ticket: number; said: number } | undefined;
  #isClosed = false;

  constructor(options: SequenceGuideOptions) {
    this.options = options;
    this.#at = options.at;
    this.#open();
  }

  get at(): GuidePlace {
    return this.#at;
  }

  /** Its thread is another one from now on. */
  moveTo(at: GuidePlace): void {
    this.#at = at;
    this.#open();
  }

  /** The sequence has one more token; asks what may follow it. */
  accept(token: number): void {
    if (this.failure) return;
    const { thread, place } = this.#at;
    const foreseen = this.#foreseen;
    if (foreseen?.tokens[foreseen.said] === token) foreseen.said++;
    else this.#foreseen = undefined;
    const ticket = this.#ask();
    if (this.#untold && this.#untoldAt === thread.sent) {
      this.#untold.tokens.push(token);
      this.#untold.ticket = ticket;
    } else {
      this.#untold = { kind: 'accept', place, ticket, tokens: [token] };
      this.#untoldAt = thread.sent;
      thread.tell(this.#untold);
    }
  }

  /** These are to be verified next, at most `guidedDraftsMax`; asks what may follow each. */
  foresee(tokens: readonly number[]): void {
    if (this.failure) return;
    const { thread, place } = this.#at;
    const ticket = thread.nextTicket(place);
    this.#foreseen = { tokens, ticket, said: 0 };
    this.#untold = undefined;
    thread.tell({ kind: 'foresee', place, ticket, tokens });
  }

  /** A value of `guideState`. Only while {@link isAnswered}. @throws RuntimeError why it failed */
  get state(): number {
    if (this.failure) throw this.failure;
    return this.#at.thread.board.stateOf(this.#at.place, this.#entry);
  }

  /** Whether {@link state} says something. */
  get isAnswered(): boolean {
    const { thread, place } = this.#at;
    return this.failure !== undefined || thread.board.isAnswered(place, this.#question, this.#entry > 0);
  }

  /** Stops this thread until it {@link isAnswered}, for so long at most. @returns whether it is */
  wait(timeoutMs: number): boolean {
    const { thread, place } = this.#at;
    return this.failure !== undefined || thread.board.wait(place, this.#question, this.#entry > 0, timeoutMs);
  }

  /** The tokens that may come next, as bits. */
  get mask(): Uint32Array {
    return this.#at.thread.board.maskOf(this.#at.place, this.#entry);
  }

  /** Asks to be woken when the answer is there. */
  await(): void {
    this.#at.thread.board.await();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { thread, place } = this.#at;
    thread.tell({ kind: 'close', place });
    thread.givePlaceBack(place);
    this.options.onClose(this);
  }

  /** Which of the place's entries is about what comes next: one of drafts that were said, or the first. */
  get #entry(): number {
    return this.#foreseen?.said ?? 0;
  }

  get #question(): number {
    return this.#entry > 0 ? (this.#foreseen?.ticket ?? 0) : this.#ticket;
  }

  #open(): void {
    const { thread, place } = this.#at;
    const { grammar, stopTokenIds } = this.options;
    const tokens = this.options.outputTokens();
    this.#foreseen = undefined;
    this.#untold = undefined;
    thread.tell({ kind: 'open', place, ticket: this.#ask(), grammar: grammar.id, tokens, stopTokenIds });
  }

  #ask(): number {
    this.#ticket = this.#at.thread.nextTicket(this.#at.place);
    return this.#ticket;
  }
}
