import type { RuntimeError } from '../errors.ts';
import type { CompiledGrammar } from './compiled-grammar.ts';
import type { GuidanceThread } from './guidance-thread.ts';

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

/** One running sequence's way through its grammar. Questions are numbered: an answer to an old one is none. */
export class SequenceGuide {
  readonly options: SequenceGuideOptions;
  /** It cannot be followed any further. */
  failure: RuntimeError | undefined;
  #at: GuidePlace;
  #ticket = 0;
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
    thread.tell({ kind: 'accept', place, ticket: this.#ask(), token });
  }

  /** A value of `guideState`, or undefined while the answer is not there. @throws RuntimeError why it failed */
  state(): number | undefined {
    if (this.failure) throw this.failure;
    return this.#at.thread.board.stateOf(this.#at.place, this.#ticket);
  }

  /** Whether {@link state} says something. */
  get isAnswered(): boolean {
    const { thread, place } = this.#at;
    return this.failure !== undefined || thread.board.stateOf(place, this.#ticket) !== undefined;
  }

  /** The tokens that may come next, as bits. */
  get mask(): Uint32Array {
    return this.#at.thread.board.maskOf(this.#at.place);
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

  #open(): void {
    const { thread, place } = this.#at;
    const { grammar, stopTokenIds } = this.options;
    const tokens = this.options.outputTokens();
    thread.tell({ kind: 'open', place, ticket: this.#ask(), grammar: grammar.id, tokens, stopTokenIds });
  }

  #ask(): number {
    this.#ticket = this.#at.thread.nextTicket(this.#at.place);
    return this.#ticket;
  }
}
