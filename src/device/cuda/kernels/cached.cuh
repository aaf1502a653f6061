// How keys and values lie in the KV cache: as activations, or (KV_FP8) as e4m3 without a scale, which become float16 in registers.
#pragma once
#include "common.cuh"

#ifndef KV_FP8
#define KV_FP8 0
#endif
#if KV_FP8
using Cached = unsigned char;
#else
using Cached = T;
#endif

// Where element d of a key lies among the bytes of an e4m3 cache row: so that the four bytes that a lane loads of 16 elements are, as float16,
// its two registers of a tensor-core fragment (elements 2t, 2t + 1 and 2t + 8, 2t + 9). Even d and d + 1 stay neighbours.
__device__ __forceinline__ int keyByte(int d) { return (d & ~15) | ((d & 6) << 1) | ((d & 8) >> 2) | (d & 1); }

// Weights of at most 1 as a register.
__device__ __forceinline__ u32 packWeights(float low, float high) {
#if KV_FP8
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const u32*>(&pair);
#else
  return pack2(low, high);
#endif
}
