// Adds what a product made onto the residual stream, and norms the result: x += Σ parts, out = RMSNorm(x). The parts are a product's sum over its
// inputs, cut into pieces that ran side by side. One block a row, which stays in registers.
//
// NORM 0: x alone; KEEPS 0: the sum takes x's place. (A rank's part of a sum over several, of which one alone adds the residual stream.)
// SCALED: the parts are sums of e4m3 numbers, still without their rows' and columns' scales. FP8: out is e4m3 with a scale a row.
#include "common.cuh"

#ifndef PARTS
#define PARTS 1
#endif
#ifndef NORM
#define NORM 1
#endif
#ifndef KEEPS
#define KEEPS 1
#endif
#ifndef SCALED
#define SCALED 0
#endif
#ifndef FP8
#define FP8 0
#endif
// 16-byte vectors of x that a thread takes.
#ifndef VECTORS
#define VECTORS 2
#endif

struct Parameters {
  T* x;                       // [rows, width], xStride apart
  const T* parts;             // [PARTS, rows, width]
  const float* rowScales;     // SCALED: [rows]
  const float* columnScales;  // SCALED: [width]
  const float* weight;        // [width]
  void* out;                  // [rows, width], outStride apart
  float* scales;              // FP8: [rows]
  int rows, width, xStride, outStride;
  float epsilon;
};

[[maybe_unused]] constexpr float largestE4m3 = 448.0f;
// Rows of zeros get some scale too.
[[maybe_unused]] constexpr float scaleMin = 1e-12f;

extern "C" __global__ void sumNorm(const __grid_constant__ Parameters p) {
#if NORM
  __shared__ float sums[32], mosts[32];
#endif
  waitForPrevious();
  letNextStart();
  const int row = blockIdx.x;
  T* x = p.x + (size_t)row * p.xStride;
  const T* parts = p.parts + (size_t)row * p.width;
#if SCALED
  const float rowScale = p.rowScales[row];
#endif
#if NORM
  float values[VECTORS][lanesOf16];
  float squares = 0, most = 0;
#endif
#pragma unroll
  for (int k = 0; k < VECTORS; k++) {
    const int i = (k * blockDim.x + threadIdx.x) * lanesOf16;
    if (i >= p.width) continue;
    Vector v = *reinterpret_cast<const Vector*>(x + i);
    Vector part[PARTS];
#pragma unroll
    for (int s = 0; s < PARTS; s++) part[s] = *reinterpret_cast<const Vector*>(parts + (size_t)s * p.rows * p.width + i);
#if NORM
    float weights[lanesOf16];
    loadFloats(weights, p.weight + i);
#endif
#if SCALED
    float columnScales[lanesOf16];
    loadFloats(columnScales, p.columnScales + i);
#endif
#pragma unroll
    for (int e = 0; e < lanesOf16; e++) {
      float sum = 0;
#pragma unroll
      for (int s = 0; s < PARTS; s++) sum += toFloat(part[s].values[e]);
#if SCALED
      sum *= rowScale * columnScales[e];
#endif
      v.values[e] = fromFloat<T>(KEEPS ? toFloat(v.values[e]) + sum : sum);
#if NORM
      float value = toFloat(v.values[e]);
      squares += value * value;
      value *= weights[e];
      values[k][e] = value;
      most = fmaxf(most, fabsf(value));
#endif
    }
    *reinterpret_cast<Vector*>(x + i) = v;
  }
#if NORM
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  most = warpMax(most);
  squares = warpSum(squares);
  if (lane == 0) sums[warp] = squares, mosts[warp] = most;
  __syncthreads();
  most = warpMax(lane < warps ? mosts[lane] : 0.0f);
  float factor = rsqrtf(warpSum(lane < warps ? sums[lane] : 0.0f) / p.width + p.epsilon);
#if FP8
  const float scale = fmaxf(most * factor, scaleMin) / largestE4m3;
  if (threadIdx.x == 0) p.scales[row] = scale;
  factor /= scale;
  unsigned char* out = static_cast<unsigned char*>(p.out) + (size_t)row * p.outStride;
#else
  T* out = static_cast<T*>(p.out) + (size_t)row * p.outStride;
#endif
#pragma unroll
  for (int k = 0; k < VECTORS; k++) {
    const int i = (k * blockDim.x + threadIdx.x) * lanesOf16;
    if (i >= p.width) continue;
#if FP8
    union {
      unsigned short pairs[lanesOf16 / 2];
      uint2 all;
    } packed;
#pragma unroll
    for (int e = 0; e < lanesOf16; e += 2) packed.pairs[e / 2] = packE4m3(values[k][e] * factor, values[k][e + 1] * factor);
    *reinterpret_cast<uint2*>(out + i) = packed.all;
#else
    Vector v;
#pragma unroll
    for (int e = 0; e < lanesOf16; e++) v.values[e] = fromFloat<T>(values[k][e] * factor);
    *reinterpret_cast<Vector*>(out + i) = v;
#endif
  }
#endif
}
