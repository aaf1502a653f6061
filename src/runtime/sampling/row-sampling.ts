import { samplingFeature } from '../../device/step.ts';
import type { GenerationRequest, SamplingParameters } from '../requests/request.ts';
import { BadWords } from './bad-words.ts';

/** Below it a temperature counts as 0 (vLLM's threshold): dividing by it would overflow. */
export const temperatureMin = 1e-5;

/** A request's sampling, prepared once for every row it will have. */
export interface RowSampling {
  /** Whose it is, for the tracer. */
  requestId: number;
  parameters: SamplingParameters;
  isGreedy: boolean;
  hasPenalties: boolean;
  /** Logits are changed at every token: by penalties, a bias or bans. A guide changes none: it says which count. */
  changesLogits: boolean;
  isGuided: boolean;
  /** Choices depend on a `SamplingHistory`. */
  needsHistory: boolean;
  badWords: BadWords | undefined;
  biasTokens: Int32Array;
  biasValues: Float32Array;
  stopTokens: Int32Array;
  minTokens: number;
  /** Top log-probabilities wanted; −1 is none. */
  logprobs: number;
  /** Bits of `samplingFeature` that a device needs to choose its tokens. */
  features: number;
}

/** Prepares a request's sampling once. */
export function compileSampling(request: GenerationRequest): RowSampling {
  const parameters = request.sampling;
  const bias = parameters.logitBias ?? [];
  const isGreedy = parameters.temperature < temperatureMin;
  const hasPenalties =
    parameters.repetitionPenalty !== 1 ||
    parameters.presencePenalty !== 0 ||
    parameters.frequencyPenalty !== 0;
  const bans = request.minTokens > 0 && request.stopTokenIds.length > 0;
  const { badWords = [], noRepeatNgramSize = 0, allowedTokens, embeddingBias, topPDecay } = parameters;
  const bansBySaid = badWords.length > 0 || noRepeatNgramSize > 0;
  const isDense = allowedTokens !== undefined || embeddingBias !== undefined;
  const needsHistory = bansBySaid || (topPDecay !== undefined && !isGreedy);
  return {
    requestId: request.id,
    parameters,
    isGreedy,
    hasPenalties,
    changesLogits: hasPenalties || bias.length > 0 || bansBySaid || isDense,
    isGuided: request.guide !== undefined,
    needsHistory,
    badWords: badWords.length > 0 ? new BadWords(badWords) : undefined,
    features:
      (request.guide === undefined ? 0 : samplingFeature.mask) |
      (isGreedy ? 0 : samplingFeature.draw) |
      (hasPenalties || bias.length > 0 || bans ? samplingFeature.state : 0) |
      (needsHistory || isDense ? samplingFeature.history : 0) |
      (request.logprobs === undefined ? 0 : samplingFeature.logprobs),
    biasTokens: Int32Array.from(bias, ([token]) => token),
    biasValues: Float32Array.from(bias, ([, value]) => value),
    stopTokens: Int32Array.from(request.stopTokenIds),
    minTokens: request.minTokens,
    logprobs: request.logprobs ?? -1,
  };
}

/** Whether the argmax of the raw logits is the answer, so that the device may pick it itself. */
export function isPlainGreedy(sampling: RowSampling, generated: number): boolean {
  return (
    sampling.isGreedy &&
    !sampling.isGuided &&
    !sampling.changesLogits &&
    sampling.logprobs < 0 &&
    !bansStops(sampling, generated)
  );
}

/**
 * Below it a row is drawn from its logits: a device divides them in float32, where they grow so large that rounding would show in the
 * probabilities (about 1e-5 of a token's at a logit of 30).
 */
export const probabilityTemperatureMin = 0.1;

/** Whether a token is drawn from the model's own logits, of a guided row from some of them, so that the device may make them probabilities. */
export function isPlainDraw(sampling: RowSampling, generated: number): boolean {
  return (
    sampling.parameters.temperature >= probabilityTemperatureMin &&
    !sampling.changesLogits &&
    !bansStops(sampling, generated)
  );
}

/** Whether stop ids may not be chosen yet. */
export function bansStops(sampling: RowSampling, generated: number): boolean {
  return generated < sampling.minTokens && sampling.stopTokens.length > 0;
}
