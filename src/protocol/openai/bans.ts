import type { SamplingParameters } from '../../runtime/requests/request.ts';
import { badWordTokens } from '../bad-words.ts';
import type { ServedModel } from '../served-model.ts';
import type { GenerationFields } from './requests.ts';
import { checkTokenId } from './token-ids.ts';

/** What a request forbids, beside `logit_bias`. */
export type Bans = Pick<SamplingParameters, 'allowedTokens' | 'badWords' | 'noRepeatNgramSize' | 'topPDecay'>;

/** TensorRT-LLM's default of `top_p_min`. */
const topPMinDefault = 1e-6;

/**
 * vLLM's `allowed_token_ids` and `bad_words`; TensorRT-LLM's `no_repeat_ngram_size` and decaying top-p.
 * @throws ProtocolError PARAMETER_INVALID
 */
export async function bansOf(
  fields: GenerationFields,
  model: ServedModel,
  signal: AbortSignal,
): Promise<Bans> {
  const bans: Bans = {};
  const { allowed_token_ids: allowed, bad_words: words, no_repeat_ngram_size: ngramSize } = fields;
  if (allowed) {
    for (const id of allowed) checkTokenId(id, model, 'allowed_token_ids');
    bans.allowedTokens = Int32Array.from(new Set(allowed));
  }
  if (words && words.length > 0) bans.badWords = await badWordTokens(words, model, signal);
  if (ngramSize) bans.noRepeatNgramSize = ngramSize;
  bans.topPDecay = topPDecayOf(fields, model);
  return bans;
}

function topPDecayOf(fields: GenerationFields, model: ServedModel): SamplingParameters['topPDecay'] {
  const { top_p_decay: factor, top_p_min: min, top_p_reset_ids: resetToken } = fields;
  if (resetToken !== null && resetToken !== undefined) checkTokenId(resetToken, model, 'top_p_reset_ids');
  if (factor === null || factor === undefined) return undefined;
  return { factor, min: min ?? topPMinDefault, resetToken: resetToken ?? undefined };
}
