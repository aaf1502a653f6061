/**
 * Memory that an engine and one guidance worker share: for each place (a guided sequence has one) the tokens that may come next, as bits, and
 * which question that answers. The worker fills a place while the device runs; the engine looks when it has the logits.
 */

/** What a place says. */
export const guideState = {
  /** The mask holds: at least one token may come next. */
  mask: 0,
  /** The grammar is at its end, and nothing may follow. */
  done: 1,
  /** No token of the vocabulary goes on as the grammar asks. */
  stuck: 2,
} as const;

const control = { isAwaited: 0, operations: 1, place: 2, count: 4 } as const;
const headerLength = 2;
const noPlace = -1;

/** The shared memory, and where in it what lies. */
export interface MaskBoardMemory {
  buffer: SharedArrayBuffer;
  places: number;
  vocabularySize: number;
}

/** Memory for a worker with so many places. Pages are touched as places are used. */
export function maskBoardMemory(places: number, vocabularySize: number): MaskBoardMemory {
  const words = control.count + places * (headerLength + Math.ceil(vocabularySize / 32));
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
    this.#headers = new Int32Array(buffer, control.count * 4, places * headerLength);
    this.#masks = new Uint32Array(buffer, (control.count + places * headerLength) * 4);
  }

  /** The worker's: answers question `ticket` of a place. */
  answer(place: number, ticket: number, state: number, mask?: Int32Array): void {
    if (mask) this.#masks.set(mask.subarray(0, this.#words), place * this.#words);
    this.#headers[place * headerLength + 1] = state;
    Atomics.store(this.#headers, place * headerLength, ticket);
  }

  /** The engine's: what the place says, if it has answered question `ticket`. */
  stateOf(place: number, ticket: number): number | undefined {
    if (Atomics.load(this.#headers, place * headerLength) !== ticket) return undefined;
    return this.#headers[place * headerLength + 1];
  }

  /** The tokens that may come next: bit i mod 32 of word i / 32. Valid until the place's next question. */
  maskOf(place: number): Uint32Array {
    return this.#masks.subarray(place * this.#words, (place + 1) * this.#words);
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
