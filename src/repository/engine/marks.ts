/**
 * What Nereid's own models know of each other's tensors beyond their bytes. A mark hangs on a tensor's data, so it survives renaming by
 * ensembles and models that call models, and is gone where a client sends the bytes by itself. This is what makes streamed
 * detokenization stateful while the configurations stay the original ones.
 */

/** On `output_ids`: which sequence the tokens belong to. */
export interface TokensMark {
  /** The same object for all pieces of a sequence. */
  sequence: object;
  /** The tokens go on after the prompt, which is not among them. */
  isContinuation: boolean;
  /** Nothing of this sequence follows. */
  isLast: boolean;
}

/** On `stop_words_list`: the words themselves, by batch row. */
export type WordsMark = readonly (readonly string[])[];

const tokens = new WeakMap<Uint8Array, TokensMark>();
const words = new WeakMap<Uint8Array, WordsMark>();

/** Remembers a mark for as long as the data lives. */
export function markTokens(data: Uint8Array, mark: TokensMark): void {
  tokens.set(data, mark);
}

/** The mark of these very bytes, if they have one. */
export function tokensMarkOf(data: Uint8Array): TokensMark | undefined {
  return tokens.get(data);
}

/** Remembers a mark for as long as the data lives. */
export function markWords(data: Uint8Array, mark: WordsMark): void {
  words.set(data, mark);
}

/** The mark of these very bytes, if they have one. */
export function wordsMarkOf(data: Uint8Array): WordsMark | undefined {
  return words.get(data);
}
