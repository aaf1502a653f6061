// Deterministic random values for engines without a checkpoint: uniform in (-scale, scale) around `offset`, from a counter and a seed,
// so that every run and every tensor layout of the same seed gets the same weights.
#include "common.cuh"

struct Parameters {
  T* out;
  u64 count;
  u32 seed;
  float scale, offset;
};

__device__ __forceinline__ u32 mix(u32 x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

extern "C" __global__ void fill(const __grid_constant__ Parameters p) {
  const u64 stride = (u64)gridDim.x * blockDim.x;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += stride) {
    const u32 bits = mix((u32)i ^ mix((u32)(i >> 32) + p.seed * 0x9e3779b9u));
    const float unit = (float)(bits >> 8) * (1.0f / 8388608.0f) - 1.0f;
    p.out[i] = fromFloat<T>(p.offset + p.scale * unit);
  }
}
