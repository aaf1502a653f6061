// Counts a sequence's tokens for its penalties (`SamplingState::counts`, which is zero before): one thread a token.
#include "common.cuh"

struct Parameters {
  const int* tokens; // those of the prompt, then those that were said
  int* counts;
  int promptCount, count;
};

extern "C" __global__ void countTokens(const __grid_constant__ Parameters p) {
  waitForPrevious();
  letNextStart();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= p.count) return;
  int* place = p.counts + p.tokens[i];
  atomicOr(place, 1);
  if (i >= p.promptCount) atomicAdd(place, 2);
}
