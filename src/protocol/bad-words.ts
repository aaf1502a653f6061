import { badWordsMax as badWordFormsMax } from '../runtime/requests/validate.ts';
import { ProtocolError } from './errors.ts';
import type { ServedModel } from './served-model.ts';

/** Bad words of one request: each may be two to the engine. */
export const badWordsMax = badWordFormsMax / 2;

/**
 * Words that may not be said, as tokens: each as a text of its own and after a space, since that is another token to most vocabularies
 * (as vLLM has it). Checked by the engine too, which counts their tokens.
 * @throws ProtocolError PARAMETER_INVALID for an empty word, or too many
 */
export async function badWordTokens(
  words: readonly string[],
  model: ServedModel,
  signal?: AbortSignal,
): Promise<number[][]> {
  const parameter = 'bad_words';
  if (words.length > badWordsMax) {
    const message = `bad_words has ${words.length} entries; at most ${badWordsMax} are taken`;
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter });
  }
  const forms = new Map<string, number[]>();
  for (const [index, word] of words.entries()) {
    const bare = word.trimStart();
    if (bare === '') {
      const message = `bad_words[${index}] is empty; leave it out`;
      throw new ProtocolError('PARAMETER_INVALID', message, { parameter });
    }
    for (const form of [bare, ` ${bare}`]) {
      const tokens = [...(await model.encode(form, { addSpecialTokens: false, signal }))];
      if (tokens.length > 0) forms.set(tokens.join(), tokens);
    }
  }
  return [...forms.values()];
}
