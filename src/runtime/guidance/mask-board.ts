/**
 * Memory that an engine and one guidance worker share: for each place (a guided sequence has one) the tokens that may come next, as bits, and
 * which question that answers. The worker fills a place while the device runs; the engine looks when it has the logits. Behind the first
 * entry of a place lie those of drafts: what may follow each, if the sequence says them.
 */

/** What an entry says. */
export const guideState = {
  /** The mask holds: at least one token may come next. */
  mask: 0,
  /** The grammar is at its end, and nothing may follow. */
  done: 1,
  /** No token of the vocabulary goes on as the grammar asks. */
  stuck: 2,
} as const;

/** Drafts of a guided sequence in a step at most. */
export const guidedDraftsMax = 8;

const entries = 1 + guidedDraftsMax;
const control = { isAwaited: 0, operations: 1, place: 2, count: 4 } as const;
const header = { ticket: 0, foretold: 1, states: 2, length: 2 + entries } as const;
const noPlace = -1;

/** The shared memory, and where in it what lies. */
export interface MaskBoardMemory {
  buffer: SharedArrayBuffer;
  places: number;
  vocabularySize: number;
}

/** Memory for a worker with so many places. Pages are touched as places are used. */
export function maskBoardMemory(places: number, vocabularySize: number): MaskBoardMemory {
  const words = control.count + places * (header.length + entries * Math.ceil(vocabularySize / 32));
  return { buffer: new SharedArrayBuffer(words * 4), places, vocabularySize };
}

/** Either side's view of the memory. */
export class MaskBoard {
  readonly #control: Int32Array;
  readonly #headers: Int32Array;
  readonly #masks: Uint32Array;
  readonly #words: number;

  constructor({ buffer, places, vocabularySize }: MaskBoardMemory) {
    this.#words = Math.ceil(vocabularySize / 32);
    this.#control = new Int32Array(buffer, 0, control.count);
    this.#headers = new Int32Array(buffer, control.count * 4, places * header.length);
    this.#masks = new Uint32Array(buffer, (control.count + places * header.length) * 4);
  }

  /** The worker's: fills an entry of a place. */
  write(place: number, entry: number, state: number, mask?: Int32Array): void {
    if (mask) this.#masks.set(mask.subarray(0, this.#words), (place * entries + entry) * this.#words);
    this.#headers[place * header.length + header.states + entry] = state;
  }

  /** The worker's: the first entry answers question `ticket`. */
  answer(place: number, ticket: number): void {
    this.#publish(place * header.length + header.ticket, ticket);
  }

  /** The worker's: the other entries answer question `ticket`. */
  foretell(place: number, ticket: number): void {
    this.#publish(place * header.length + header.foretold, ticket);
  }

  #publish(index: number, ticket: number): void {
    Atomics.store(this.#headers, index, ticket);
    Atomics.notify(this.#headers, index);
  }

  /** The engine's: whether question `ticket` of a place was answered, about what comes next or about what follows drafts. */
  isAnswered(place: number, ticket: number, isForetold: boolean): boolean {
    return Atomics.load(this.#headers, ticketIndex(place, isForetold)) === ticket;
  }

  /** The engine's: stops its thread until that is so. @returns whether it is, `timeoutMs` later at most */
  wait(place: number, ticket: number, isForetold: boolean, timeoutMs: number): boolean {
    const index = ticketIndex(place, isForetold);
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const now = Atomics.load(this.#headers, index);
      if (now === ticket) return true;
      const leftMs = endMs - performance.now();
      if (leftMs <= 0) return false;
      Atomics.wait(this.#headers, index, now, leftMs);
    }
  }

  /** What an entry of a place says, once it was answered. */
  stateOf(place: number, entry: number): number {
    return this.#headers[place * header.length + header.states + entry] as number;
  }

  /** The tokens that may come next: bit i mod 32 of word i / 32. Valid until the place's next question. */
  maskOf(place: number, entry: number): Uint32Array {
    const start = (place * entries + entry) * this.#words;
    return this.#masks.subarray(start, start + this.#words);
  }

  /** The engine's: asks to be told when something was answered. Look once more after it. */
  await(): void {
    Atomics.store(this.#control, control.isAwaited, 1);
  }

  /** The worker's: whether the engine asked, once. */
  takeAwaited(): boolean {
    return Atomics.exchange(this.#control, control.isAwaited, 0) === 1;
  }

  /** The worker's: begins something for a place, or for none. */
  begin(place = noPlace): void {
    Atomics.store(this.#control, control.place, place);
  }

  /** The worker's: what it began is done. */
  end(): void {
    Atomics.add(this.#control, control.operations, 1);
    Atomics.store(this.#control, control.place, noPlace);
  }

  /** How many things the worker has done. */
  get operations(): number {
    return Atomics.load(this.#control, control.operations);
  }

  /** For which place the worker is at work; −1 for none. */
  get placeAtWork(): number {
    return Atomics.load(this.#control, control.place);
  }
}

function ticketIndex(place: number, isForetold: boolean): number {
  return place * header.length + (isForetold ? header.foretold : header.ticket);
}
