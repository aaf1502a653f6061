import { hash32 } from '../../base/random.ts';
import type { Sequence } from '../sequences/sequence.ts';
import type { Drafter, DraftWish } from './drafter.ts';
import { type NgramLengths, ngramLengthsDefault } from './ngram-lengths.ts';

/**
 * Prompt lookup: what followed the last few tokens when they stood in the text before, prompt or answer, will follow again. Pays where an answer
 * repeats its prompt: edits, summaries with quotes, code. Costs no model, and a few hash table entries a token.
 */
export class NgramDrafter implements Drafter {
  readonly name = 'ngram';
  readonly #lengths: NgramLengths;
  readonly #texts = new Map<Sequence, NgramIndex>();

  constructor(lengths: NgramLengths = ngramLengthsDefault) {
    this.#lengths = lengths;
  }

  propose(wishes: readonly DraftWish[]): void {
    for (const { sequence, draftsMax } of wishes)
      sequence.drafts = this.#indexOf(sequence).continuation(draftsMax);
  }

  #indexOf(sequence: Sequence): NgramIndex {
    let index = this.#texts.get(sequence);
    if (!index) {
      const { prediction, speculation } = sequence.owner.request;
      index = new NgramIndex(sequence, speculation?.lookup ?? this.#lengths, prediction);
      this.#texts.set(sequence, index);
    }
    return index;
  }

  forget(sequence: Sequence): void {
    this.#texts.delete(sequence);
  }

  close(): void {
    this.#texts.clear();
  }
}

interface GrowingText {
  readonly length: number;
  tokenAt(position: number): number;
}

const nothing = new Int32Array(0);

/** Where each n-gram of a text stood last. Grows with the text; looks at each token once a length. */
export class NgramIndex {
  readonly #text: GrowingText;
  readonly #lengths: NgramLengths;
  /** What the request says the answer will be like: lies before the text, and is looked up like it. */
  readonly #prediction: Int32Array;
  /** By hash of an n-gram: where what follows it lies. */
  readonly #places = new Map<number, number>();
  #indexed: number;

  constructor(text: GrowingText, lengths: NgramLengths, prediction: Int32Array = nothing) {
    this.#text = text;
    this.#lengths = lengths;
    this.#prediction = prediction;
    this.#indexed = 0;
    this.#grow();
  }

  /** What followed the text's last tokens when they stood in it before, at most `max` tokens of it. */
  continuation(max: number): number[] {
    this.#grow();
    const { length } = this;
    const shortest = Math.min(this.#lengths.min, this.#lengths.max);
    for (let size = this.#lengths.max; size >= shortest; size--) {
      const place = this.#find(size);
      if (place >= 0) return this.#from(place, max, length);
    }
    return [];
  }

  get length(): number {
    return this.#prediction.length + this.#text.length;
  }

  #at(place: number): number {
    const own = place - this.#prediction.length;
    return own < 0 ? (this.#prediction[place] as number) : this.#text.tokenAt(own);
  }

  /** Tokens from `place` on; where the text ends, a repetition goes on in itself. */
  #from(place: number, max: number, length: number): number[] {
    const tokens: number[] = [];
    for (let index = place; tokens.length < max; index++) {
      tokens.push(index < length ? this.#at(index) : (tokens[index - length] as number));
    }
    return tokens;
  }

  /** Where what follows the text's last `size` tokens lies; −1 where they never stood before. */
  #find(size: number): number {
    const { length } = this;
    if (this.#text.length < size) return -1;
    const place = this.#places.get(this.#hash(length - size, size));
    if (place === undefined) return -1;
    // Two n-grams may have one hash.
    for (let index = 1; index <= size; index++) {
      if (this.#at(place - index) !== this.#at(length - index)) return -1;
    }
    return place;
  }

  /** Enters all n-grams that something follows. */
  #grow(): void {
    const { length } = this;
    const from = Math.max(this.#indexed, 1);
    for (let end = from; end < length; end++) {
      for (let size = this.#lengths.min; size <= this.#lengths.max && size <= end; size++) {
        this.#places.set(this.#hash(end - size, size), end);
      }
    }
    this.#indexed = Math.max(from, length);
  }

  #hash(from: number, size: number): number {
    let hash = hash32(size);
    for (let index = from; index < from + size; index++) hash = hash32(hash, this.#at(index));
    return hash;
  }
}
