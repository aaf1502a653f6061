import type { NgramLengths } from './ngram.ts';

/** How an engine is told to speculate: plain data, for another process. */
export type SpeculationSettings = {
  /** Drafts of a sequence in a step at most; absent: the engine's default. */
  draftsMax?: number | undefined;
} & (
  | { method: 'ngram'; lengths?: NgramLengths | undefined }
  /** The engine folder of the draft model; absent on the null device. */
  | { method: 'draft-model'; engineFolder?: string | undefined }
);

export const speculationMethods = ['ngram', 'draft-model'] as const;
