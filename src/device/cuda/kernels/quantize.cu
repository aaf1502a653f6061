// Rows as e4m3 with a float32 scale each: scale = largest / 448, out = x / scale. One block a row, which stays in registers.
//
// MODE 0: x as it is (also weights, by output channel). MODE 1: RMSNorm of x. MODE 2: silu(gate) · up, gate and up side by side in a row.
#include "common.cuh"

#ifndef MODE
#define MODE 0
#endif
// 16-byte vectors of x that a thread takes.
#ifndef VECTORS
#define VECTORS 2
#endif

// MODE 2: gate and up are sums of e4m3 numbers, still without their rows' and columns' scales.
#ifndef SCALED
#define SCALED 0
#endif

struct Parameters {
  const T* x;          // rows of width (MODE 2: 2 · width), xStride apart; all multiples of a vector
  const float* weight; // MODE 1: [width]
  unsigned char* out;  // [rows, width]
  float* scales;       // [rows]
  int width, xStride;
  float epsilon;
#if SCALED
  const float* rowScales;    // [rows]
  const float* columnScales; // of the gate's columns, then up's
#endif
};

constexpr float largestE4m3 = 448.0f;
// Rows of zeros get some scale too.
constexpr float scaleMin = 1e-12f;

extern "C" __global__ void quantize(const __grid_constant__ Parameters p) {
  __shared__ float sums[32], mosts[32];
  waitForPrevious();
  letNextStart();
  const T* x = p.x + (size_t)blockIdx.x * p.xStride;
  float values[VECTORS][lanesOf16];
  float squares = 0, most = 0;
#if SCALED
  const float rowScale = p.rowScales[blockIdx.x];
#endif
#pragma unroll
  for (int k = 0; k < VECTORS; k++) {
    const int i = (k * blockDim.x + threadIdx.x) * lanesOf16;
    if (i >= p.width) continue;
    const Vector v = *reinterpret_cast<const Vector*>(x + i);
#if MODE == 2
    const Vector up = *reinterpret_cast<const Vector*>(x + p.width + i);
#endif
#if MODE == 1
    float weights[lanesOf16];
    loadFloats(weights, p.weight + i);
#endif
#if SCALED
    float gateScales[lanesOf16], upScales[lanesOf16];
    loadFloats(gateScales, p.columnScales + i);
    loadFloats(upScales, p.columnScales + p.width + i);
#endif
#pragma unroll
    for (int e = 0; e < lanesOf16; e++) {
      float value = toFloat(v.values[e]);
#if MODE == 1
      squares += value * value;
      value *= weights[e];
#elif MODE == 2
      float other = toFloat(up.values[e]);
#if SCALED
      value *= rowScale * gateScales[e];
      other *= rowScale * upScales[e];
#endif
      value = __fdividef(value, 1.0f + __expf(-value)) * other;
#endif
      values[k][e] = value;
      most = fmaxf(most, fabsf(value));
    }
  }
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  most = warpMax(most);
  if (MODE == 1) squares = warpSum(squares);
  if (lane == 0) sums[warp] = squares, mosts[warp] = most;
  __syncthreads();
  most = warpMax(lane < warps ? mosts[lane] : 0.0f);
  float factor = 1.0f;
  if (MODE == 1) factor = rsqrtf(warpSum(lane < warps ? sums[lane] : 0.0f) / p.width + p.epsilon);
  const float scale = fmaxf(most * factor, scaleMin) / largestE4m3;
  if (threadIdx.x == 0) p.scales[blockIdx.x] = scale;
  factor /= scale;
  unsigned char* out = p.out + (size_t)blockIdx.x * p.width;
#pragma unroll
  for (int k = 0; k < VECTORS; k++) {
    const int i = (k * blockDim.x + threadIdx.x) * lanesOf16;
    if (i >= p.width) continue;
    union {
      unsigned short pairs[lanesOf16 / 2];
      uint2 all;
    } packed;
#pragma unroll
    for (int e = 0; e < lanesOf16; e += 2) packed.pairs[e / 2] = packE4m3(values[k][e] * factor, values[k][e + 1] * factor);
    *reinterpret_cast<uint2*>(out + i) = packed.all;
  }
}
