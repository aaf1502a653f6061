import type { NgramLengths } from './ngram-lengths.ts';

/** How an engine is told to speculate: plain data, for another process. */
export type SpeculationSettings = {
  /** Drafts of a sequence in a step at most; absent: the engine's default. */
  draftsMax?: number | undefined;
} & (
  | { method: 'ngram'; lengths?: NgramLengths | undefined }
  /** The engine folder of the draft model; absent on the null device. */
  | { method: 'draft-model'; engineFolder?: string | undefined }
  /** The folder of a head over the model's own hidden states; absent on the null device. */
  | { method: 'draft-head'; headFolder?: string | undefined }
);

/** N-gram lookup alone. */
export type LookupSettings = Extract<SpeculationSettings, { method: 'ngram' }>;

export const speculationMethods = ['ngram', 'draft-model', 'draft-head'] as const;
