import type { EngineStatistics } from '../requests/statistics.ts';

/** What an engine counts from its start on. */
export type EngineCounters = Pick<
  EngineStatistics,
  | 'promptTokens'
  | 'cachedPromptTokens'
  | 'generatedTokens'
  | 'steps'
  | 'computeNs'
  | 'stepNs'
  | 'prefixQueries'
  | 'prefixHits'
  | 'draftSteps'
  | 'draftTokens'
  | 'acceptedDraftTokens'
> & { acceptedDraftsByPlace: number[] };

/** All at zero. */
export function newCounters(): EngineCounters {
  return {
    promptTokens: 0,
    cachedPromptTokens: 0,
    generatedTokens: 0,
    steps: 0,
    computeNs: 0,
    stepNs: 0,
    prefixQueries: 0,
    prefixHits: 0,
    draftSteps: 0,
    draftTokens: 0,
    acceptedDraftTokens: 0,
    acceptedDraftsByPlace: [],
  };
}
