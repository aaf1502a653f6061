import type { GenerationInput } from '../generation/generation.ts';
import type { SamplingParameters } from '../runtime/requests/request.ts';
import type { ServedModel } from './served-model.ts';

/** Sampling as a request may or may not say it; `null` and absent mean "not given". */
export type WantedSampling = {
  [Name in keyof SamplingParameters]?: SamplingParameters[Name] | null;
};

/**
 * A request's sampling over the checkpoint's defaults.
 * @param temperature the protocol's default where neither says
 */
export function samplingOf(
  wanted: WantedSampling,
  { defaults }: ServedModel,
  temperature: number,
): SamplingParameters {
  return {
    temperature: wanted.temperature ?? defaults.temperature ?? temperature,
    // −1 and 0 are "all".
    topK: Math.max(0, wanted.topK ?? defaults.topK ?? 0),
    topP: wanted.topP ?? defaults.topP ?? 1,
    minP: wanted.minP ?? defaults.minP ?? 0,
    repetitionPenalty: wanted.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    presencePenalty: wanted.presencePenalty ?? 0,
    frequencyPenalty: wanted.frequencyPenalty ?? 0,
    seed: wanted.seed ?? undefined,
    logitBias: wanted.logitBias ?? undefined,
    embeddingBias: wanted.embeddingBias ?? undefined,
    allowedTokens: wanted.allowedTokens ?? undefined,
    badWords: wanted.badWords ?? undefined,
    noRepeatNgramSize: wanted.noRepeatNgramSize ?? undefined,
    topPDecay: wanted.topPDecay ?? undefined,
  };
}

/** One sequence of text, where a request says nothing else. */
export function textGeneration(
  input: Pick<GenerationInput, 'promptTokens' | 'sampling' | 'maxTokens'> & Partial<GenerationInput>,
): GenerationInput {
  return {
    minTokens: 0,
    stopTokenIds: [],
    ignoreEos: false,
    stopStrings: [],
    includeStopString: false,
    skipSpecialTokens: true,
    sequences: 1,
    priority: 0,
    ...input,
  };
}
