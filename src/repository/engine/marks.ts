import type { Tensor, TensorMark } from '../tensor.ts';

/**
 * What Nereid's own models know of each other's tensors beyond their bytes. A mark survives renaming by ensembles and models that call
 * models, and is not there where a client sends the bytes by itself. This is what makes streamed detokenization stateful while the
 * configurations stay the original ones.
 */

/** On `output_ids`: which sequence the tokens belong to. */
export interface TokensMark extends TensorMark {
  readonly kind: 'tokens';
  /** The same object for all pieces of a sequence. */
  sequence: object;
  /** The tokens go on after the prompt, which is not among them. */
  isContinuation: boolean;
  /** Nothing of this sequence follows. */
  isLast: boolean;
}

/** On `stop_words_list`: the words themselves, by batch row. */
export interface WordsMark extends TensorMark {
  readonly kind: 'words';
  rows: readonly (readonly string[])[];
}

/** The mark of a tensor that an engine made. */
export function tokensMarkOf({ mark }: Tensor): TokensMark | undefined {
  return mark?.kind === 'tokens' ? (mark as TokensMark) : undefined;
}

/** The mark of a word list that preprocessing made. */
export function wordsMarkOf({ mark }: Tensor): WordsMark | undefined {
  return mark?.kind === 'words' ? (mark as WordsMark) : undefined;
}
