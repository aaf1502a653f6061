import type { GenerationInput } from '../../generation/generation.ts';
import type { RequestSpeculation, SamplingParameters } from '../../runtime/requests/request.ts';
import { ngramLengthsDefault } from '../../runtime/speculation/ngram-lengths.ts';
import { ProtocolError } from '../errors.ts';
import { samplingOf, type WantedSampling } from '../generation-input.ts';
import { truncatedTokensMax } from '../limits.ts';
import type { ServedModel } from '../served-model.ts';
import { maxTokensOf, type TokenLimits } from '../token-limit.ts';
import type { Bans } from './bans.ts';
import { guideOf } from './guided-fields.ts';
import type { GenerationFields } from './requests.ts';
import type { AnswerSettings } from './responses.ts';
import { checkTokenId } from './token-ids.ts';

/** OpenAI's default where neither the request nor the checkpoint's generation_config says. */
const defaultTemperature = 1;

/** @throws ProtocolError PARAMETER_INVALID */
function wantedSampling(fields: GenerationFields, model: ServedModel, bans: Bans): WantedSampling {
  return {
    ...bans,
    temperature: fields.temperature,
    topK: fields.top_k,
    topP: fields.top_p,
    minP: fields.min_p,
    repetitionPenalty: fields.repetition_penalty,
    presencePenalty: fields.presence_penalty,
    frequencyPenalty: fields.frequency_penalty,
    seed: seedOf(fields.seed),
    logitBias: logitBiasOf(fields.logit_bias, model),
  };
}

/** Seeds of 64 bits are folded into the safe integers. */
function seedOf(seed: number | null | undefined): number | undefined {
  if (seed === null || seed === undefined) return undefined;
  return Number.isSafeInteger(seed) ? seed : seed % Number.MAX_SAFE_INTEGER;
}

function logitBiasOf(
  bias: Readonly<Record<string, number>> | null | undefined,
  model: ServedModel,
): SamplingParameters['logitBias'] {
  if (!bias) return undefined;
  const pairs = Object.entries(bias).map(([id, value]) => [Number(id), value] as const);
  for (const [id] of pairs) checkTokenId(id, model, 'logit_bias');
  return pairs.length > 0 ? pairs : undefined;
}

/**
 * The protocol-neutral generation of a checked request.
 * @throws ProtocolError PARAMETER_INVALID, CONTEXT_LENGTH_EXCEEDED
 */
export function generationInput(
  fields: GenerationFields,
  model: ServedModel,
  promptTokens: Int32Array,
  limits: TokenLimits,
  bans: Bans,
): GenerationInput {
  const maxTokens = maxTokensOf(limits, promptTokens.length, model);
  const minTokens = fields.min_tokens ?? 0;
  if (minTokens > maxTokens) {
    const message = `min_tokens ${minTokens} is over the ${maxTokens} tokens that may be made`;
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'min_tokens' });
  }
  const stopTokenIds = fields.stop_token_ids ?? [];
  for (const id of stopTokenIds) checkTokenId(id, model, 'stop_token_ids');
  const stop = fields.stop ?? [];
  return {
    promptTokens,
    sampling: samplingOf(wantedSampling(fields, model, bans), model, defaultTemperature),
    maxTokens,
    minTokens,
    stopTokenIds,
    ignoreEos: fields.ignore_eos ?? false,
    stopStrings: typeof stop === 'string' ? [stop] : stop,
    includeStopString: fields.include_stop_str_in_output ?? false,
    skipSpecialTokens: fields.skip_special_tokens ?? true,
    sequences: fields.n ?? 1,
    guide: guideOf(fields),
    speculation: speculationOf(fields),
    cacheSalt: fields.cache_salt ?? undefined,
    // vLLM's field: lower is earlier. The engine's: higher is earlier.
    priority: -(fields.priority ?? 0),
  };
}

/**
 * A request's own word on guessing ahead, under the names of vLLM's `speculative_config`.
 * @throws ProtocolError PARAMETER_INVALID
 */
function speculationOf(fields: GenerationFields): RequestSpeculation | undefined {
  const { num_speculative_tokens: draftsMax, prompt_lookup_max, prompt_lookup_min } = fields;
  const isLookup = typeof prompt_lookup_max === 'number' || typeof prompt_lookup_min === 'number';
  if (typeof draftsMax !== 'number' && !isLookup) return undefined;
  const own = typeof draftsMax === 'number' ? { draftsMax } : {};
  if (!isLookup) return own;
  const max = prompt_lookup_max ?? Math.max(ngramLengthsDefault.max, prompt_lookup_min ?? 0);
  const min = prompt_lookup_min ?? Math.min(max, ngramLengthsDefault.min);
  if (min <= max) return { ...own, lookup: { max, min } };
  const message = `prompt_lookup_min ${min} is over prompt_lookup_max ${max}`;
  throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'prompt_lookup_min' });
}

/**
 * When a stream reports token counts.
 * @throws ProtocolError PARAMETER_INVALID: stream_options without stream, as OpenAI has it
 */
export function usageReports(
  fields: GenerationFields,
): Pick<AnswerSettings, 'includeUsage' | 'continuousUsage'> {
  if (fields.stream_options && !fields.stream) {
    const message = 'stream_options is only allowed with stream: true';
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'stream_options' });
  }
  return {
    includeUsage: fields.stream_options?.include_usage ?? false,
    continuousUsage: fields.stream_options?.continuous_usage_stats ?? false,
  };
}

/** Tokens that a text may have before {@link truncated} cuts it; undefined: the context's length. */
export function encodableTokens(truncatePromptTokens: number | null | undefined): number | undefined {
  return truncatePromptTokens === null || truncatePromptTokens === undefined ? undefined : truncatedTokensMax;
}

/**
 * vLLM's `truncate_prompt_tokens`: keeps so many tokens of the prompt's end; −1 keeps what the context can hold beside the answer.
 */
export function truncated(
  tokens: Int32Array,
  keep: number | null | undefined,
  maxTokens: number | undefined,
  model: ServedModel,
): Int32Array {
  if (keep === null || keep === undefined) return tokens;
  const room = model.client.description.contextLength - (maxTokens ?? 1);
  const count = Math.max(1, keep === -1 ? room : keep);
  return tokens.length > count ? tokens.slice(tokens.length - count) : tokens;
}

/** @throws ProtocolError PARAMETER_INVALID for a stream, as vLLM has it */
export function promptLogprobsOf(fields: GenerationFields): number | undefined {
  if (fields.prompt_logprobs === null || fields.prompt_logprobs === undefined) return undefined;
  if (!fields.stream) return fields.prompt_logprobs;
  const message = 'prompt_logprobs are not available with stream: true';
  throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'prompt_logprobs' });
}
