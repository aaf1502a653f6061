import type { EngineCoreOptions } from '../../src/runtime/loop/engine-core.ts';
import {
  type GenerationRequest,
  greedySampling,
  type RequestReturns,
  type SamplingParameters,
} from '../../src/runtime/requests/request.ts';
import { simulatedGuide } from '../support/simulated-guides.ts';
import { featureAdapters } from './adapters.ts';

/** How a feature is turned on. Two features together are the one's changes after the other's. */
export interface Feature {
  /** As the table has it. */
  name: string;
  /** Of the engine. `drafter` names what guesses tokens; the test makes it. */
  engine?: Partial<Omit<EngineCoreOptions, 'speculation'>> & {
    drafter?: 'ngram' | 'draft-model' | 'draft-head';
  };
  /** What a request asks for that changes its answer: the answer is compared with that of the same request alone, without other features. */
  request?: (request: GenerationRequest) => Partial<GenerationRequest>;
  /** What a request brings that may change no answer. */
  brings?: (request: GenerationRequest) => Partial<GenerationRequest>;
}

const sampling =
  (changes: Partial<SamplingParameters>): NonNullable<Feature['request']> =>
  (request) => ({ sampling: { ...request.sampling, ...changes } });

const returning =
  (changes: RequestReturns): NonNullable<Feature['request']> =>
  (request) => ({ returns: { ...request.returns, ...changes } });

/**
 * Everything that one batch can hold: a row here is a row and a column of docs/features.md, and `features.test.ts` runs it with every other one on every
 * device. A new feature adds its row, then `NEREID_WRITE_FEATURES=1 node tools/test.mjs test/features` writes the table anew.
 */
export const features: readonly Feature[] = [
  { name: 'sampling', request: sampling({ temperature: 0.8, topK: 40, topP: 0.95, minP: 0.01 }) },
  {
    name: 'penalties, bias',
    request: sampling({ repetitionPenalty: 1.2, presencePenalty: 0.5, logitBias: [[100, 2]] }),
  },
  {
    name: 'bad words, n-gram bans',
    request: sampling({ badWords: [[110], [111, 112]], noRepeatNgramSize: 3 }),
  },
  { name: 'log-probabilities', request: () => ({ logprobs: 3 }) },
  { name: "the prompt's log-probabilities", request: () => ({ promptLogprobs: 2 }) },
  { name: 'context logits', request: returning({ contextLogits: true }) },
  { name: 'generation logits', request: returning({ generationLogits: true }) },
  {
    name: 'embeddings, hidden states',
    request: (request) => ({
      ...returning({ pooling: 'mean', contextHidden: true })(request),
      maxTokens: 0,
    }),
  },
  { name: 'n sequences', request: () => ({ sequences: 3 }) },
  { name: 'a guide', request: ({ id }) => ({ guide: simulatedGuide({ salt: id % 3, length: 40 }) }) },
  { name: 'min tokens', request: ({ maxTokens }) => ({ minTokens: maxTokens - 1, stopTokenIds: allIds }) },
  {
    name: 'beam search',
    request: ({ sequences }) => ({
      beams: { width: Math.max(2, sequences), lengthPenalty: 1, earlyStopping: false, diversityRate: 0 },
    }),
  },
  { name: 'LoRA adapters', request: ({ id }) => ({ adapter: featureAdapters[id % featureAdapters.length] }) },
  { name: 'prefix reuse', engine: { prefixReuse: true } },
  { name: 'pauses (`max_utilization`)', engine: { capacityPolicy: 'max_utilization' } },
  { name: 'overlapped steps', engine: { inFlightStepsMax: 2 } },
  { name: 'n-gram drafts', engine: { drafter: 'ngram' } },
  { name: 'draft model', engine: { drafter: 'draft-model' } },
  { name: 'draft head', engine: { drafter: 'draft-head' } },
  { name: 'draft tokens of the request', brings: () => ({ draft: { tokens: Int32Array.of(101, 102) } }) },
  { name: 'prediction', brings: ({ promptTokens }) => ({ prediction: promptTokens.slice() }) },
];

/** Many stop ids, so that some would be said. */
const allIds: readonly number[] = Array.from({ length: 120 }, (_, index) => 3 + index * 2);

/** A request that asks for nothing special. */
export function plainRequest(id: number, promptTokens: Int32Array): GenerationRequest {
  return {
    id,
    promptTokens,
    sampling: { ...greedySampling, seed: id },
    maxTokens: 7,
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1,
    priority: 0,
  };
}
