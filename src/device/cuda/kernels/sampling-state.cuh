// What a sequence's choices depend on beside its logits, as it lies on the GPU.
#pragma once

struct SamplingState {
  double repetitionPenalty, presencePenalty, frequencyPenalty;
  int* counts;           // [vocabulary]: bit 0 for a token that was said or is in the prompt, above it how often it was said; null: no penalties
  const int* biasTokens;
  const float* biasValues;
  const int* bans;       // tokens that may not be chosen at positions below banUntilPosition
  int biasCount, banCount, banUntilPosition, unused;
};
