// The likeliest token of each row of logits: the lowest id of several that are equally likely, −2 where the largest is not finite (every
// token is banned, or the model made infinity or nothing but NaN). One block a row.
#include "common.cuh"

struct Parameters {
  const float* logits; // [rows, width]
  int* tokens;         // [rows]
  int width;
};

constexpr int threads = 1024;

__device__ __forceinline__ void better(float& value, int& token, float otherValue, int otherToken) {
  if (otherValue > value || (otherValue == value && otherToken < token)) {
    value = otherValue;
    token = otherToken;
  }
}

extern "C" __global__ void __launch_bounds__(threads) argmax(const __grid_constant__ Parameters p) {
  __shared__ float values[32];
  __shared__ int tokens[32];
  waitForPrevious();
  letNextStart();
  const float* logits = p.logits + (size_t)blockIdx.x * p.width;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  float value = minusInfinity;
  int token = 0x7fffffff;
  auto look = [&](float logit, int i) {
    if (logit > value) value = logit, token = i;
  };
  if (p.width % 4 == 0) {
    for (int i = threadIdx.x * 4; i < p.width; i += threads * 4) {
      const float4 four = *reinterpret_cast<const float4*>(logits + i);
      look(four.x, i);
      look(four.y, i + 1);
      look(four.z, i + 2);
      look(four.w, i + 3);
    }
  } else {
    for (int i = threadIdx.x; i < p.width; i += threads) look(logits[i], i);
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1)
    better(value, token, __shfl_xor_sync(0xffffffffu, value, offset), __shfl_xor_sync(0xffffffffu, token, offset));
  if (lane == 0) values[warp] = value, tokens[warp] = token;
  __syncthreads();
  if (warp != 0) return;
  value = values[lane];
  token = tokens[lane];
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1)
    better(value, token, __shfl_xor_sync(0xffffffffu, value, offset), __shfl_xor_sync(0xffffffffu, token, offset));
  if (lane == 0) p.tokens[blockIdx.x] = isfinite(value) ? token : -2;
}
