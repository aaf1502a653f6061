// Ops of one element: activations, sums and products (b may repeat over a's rows), and gated activations. OP picks the function, so
// that each is its own small kernel.
#include "common.cuh"

#ifndef OP
#define OP 0
#endif

struct Parameters {
  const T* a;          // rows of width, aStride apart
  const void* b;       // rows of width, bStride apart (0: one row for all); float32 where B_FLOAT; null for one operand
  T* out;              // rows of width, outStride apart
  int rows, width, aStride, bStride, outStride;
  float factor;
};

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }
__device__ __forceinline__ float geluTanh(float x) {
  return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}
__device__ __forceinline__ float geluErf(float x) { return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f)); }

__device__ __forceinline__ float apply(float a, float b, float factor) {
#if OP == 0
  return a + b;
#elif OP == 1
  return a * b;
#elif OP == 2
  return a * factor;
#elif OP == 3
  return a * sigmoid(a);
#elif OP == 4
  return geluTanh(a);
#elif OP == 5
  return geluErf(a);
#elif OP == 6
  return a * sigmoid(1.702f * a);
#elif OP == 7
  return fmaxf(a, 0.0f);
#elif OP == 8
  return tanhf(a);
#elif OP == 9
  return sigmoid(a);
#elif OP == 10
  return a * sigmoid(a) * b;
#elif OP == 11
  return geluTanh(a) * b;
#elif OP == 12
  return geluErf(a) * b;
#elif OP == 13
  return a * sigmoid(1.702f * a) * b;
#else
  return a;
#endif
}

extern "C" __global__ void elementwise(const __grid_constant__ Parameters p) {
  waitForPrevious();
  letNextStart();
#ifdef B_FLOAT
  const float* bs = reinterpret_cast<const float*>(p.b);
  const bool vectors = false;
#else
  const T* bs = reinterpret_cast<const T*>(p.b);
  const bool vectors = p.width % lanesOf16 == 0 && p.aStride % lanesOf16 == 0 && p.bStride % lanesOf16 == 0 && p.outStride % lanesOf16 == 0;
#endif
  if (vectors) {
    // A block takes vectors of one row (grid: vectors / 256, rows), so that nothing is divided.
    const int column = (blockIdx.x * blockDim.x + threadIdx.x) * lanesOf16;
    if (column >= p.width) return;
    for (size_t row = blockIdx.y; row < p.rows; row += gridDim.y) {
      Vector a = *reinterpret_cast<const Vector*>(p.a + row * p.aStride + column), b = a;
      if (p.b) b = *reinterpret_cast<const Vector*>(reinterpret_cast<const T*>(p.b) + row * p.bStride + column);
#pragma unroll
      for (int e = 0; e < lanesOf16; e++)
        a.values[e] = fromFloat<T>(apply(toFloat(a.values[e]), toFloat(b.values[e]), p.factor));
      *reinterpret_cast<Vector*>(p.out + row * p.outStride + column) = a;
    }
    return;
  }
  const u64 count = (u64)p.rows * p.width;
  const u64 block = (u64)blockIdx.y * gridDim.x + blockIdx.x, blocks = (u64)gridDim.x * gridDim.y;
  for (u64 i = block * blockDim.x + threadIdx.x; i < count; i += blocks * blockDim.x) {
    const u64 row = i / p.width;
    const int column = (int)(i % p.width);
    const float b = bs ? toFloat(bs[row * p.bStride + column]) : 0.0f;
    p.out[row * p.outStride + column] = fromFloat<T>(apply(toFloat(p.a[row * p.aStride + column]), b, p.factor));
  }
}
