// RMSNorm and LayerNorm of rows, or of the heads within rows: x / √(mean(x²) + ε) · weight, and (x − mean) / √(variance + ε) · weight
// + bias. One block a row (or head); a row of up to 16 elements a thread stays in registers between its two passes.
#include "common.cuh"

struct Parameters {
  const T* x;          // [rows][heads][width], rows xStride apart
  T* out;
  const float* weight; // [width]
  const float* bias;   // [width] or null
  int heads, width, xStride, outStride; // rmsNormRows: heads is the number of rows
  float epsilon;
};

constexpr int perThreadMax = 32;

template <bool centred> __device__ void normalize(const Parameters& p) {
  __shared__ float scratch[32];
  waitForPrevious();
  letNextStart();
  const int row = blockIdx.x / p.heads, head = blockIdx.x % p.heads;
  const T* x = p.x + (size_t)row * p.xStride + head * p.width;
  T* out = p.out + (size_t)row * p.outStride + head * p.width;
  const bool vectors = p.width % lanesOf16 == 0 && p.xStride % lanesOf16 == 0 && p.outStride % lanesOf16 == 0 &&
                       p.width <= blockDim.x * perThreadMax;
  if (vectors) {
    Vector kept[perThreadMax / lanesOf16];
    float sum = 0, squares = 0;
#pragma unroll
    for (int k = 0; k < perThreadMax / lanesOf16; k++) {
      const int i = (k * blockDim.x + threadIdx.x) * lanesOf16;
      if (i < p.width) {
        kept[k] = *reinterpret_cast<const Vector*>(x + i);
#pragma unroll
        for (int e = 0; e < lanesOf16; e++) {
          const float value = toFloat(kept[k].values[e]);
          sum += value;
          squares += value * value;
        }
      }
    }
    float mean = 0;
    if (centred) {
      mean = blockSum(sum, scratch) / p.width;
      squares = 0;
#pragma unroll
      for (int k = 0; k < perThreadMax / lanesOf16; k++) {
        const int i = (k * blockDim.x + threadIdx.x) * lanesOf16;
        if (i < p.width) {
#pragma unroll
          for (int e = 0; e < lanesOf16; e++) {
            const float value = toFloat(kept[k].values[e]) - mean;
            squares += value * value;
          }
        }
      }
    }
    const float scale = rsqrtf(blockSum(squares, scratch) / p.width + p.epsilon);
#pragma unroll
    for (int k = 0; k < perThreadMax / lanesOf16; k++) {
      const int i = (k * blockDim.x + threadIdx.x) * lanesOf16;
      if (i < p.width) {
#pragma unroll
        for (int e = 0; e < lanesOf16; e++) {
          float value = (toFloat(kept[k].values[e]) - mean) * scale * p.weight[i + e];
          if (centred && p.bias) value += p.bias[i + e];
          kept[k].values[e] = fromFloat<T>(value);
        }
        *reinterpret_cast<Vector*>(out + i) = kept[k];
      }
    }
    return;
  }
  float mean = 0, squares = 0;
  if (centred) {
    float sum = 0;
    for (int i = threadIdx.x; i < p.width; i += blockDim.x) sum += toFloat(x[i]);
    mean = blockSum(sum, scratch) / p.width;
  }
  for (int i = threadIdx.x; i < p.width; i += blockDim.x) {
    const float value = toFloat(x[i]) - mean;
    squares += value * value;
  }
  const float scale = rsqrtf(blockSum(squares, scratch) / p.width + p.epsilon);
  for (int i = threadIdx.x; i < p.width; i += blockDim.x) {
    float value = (toFloat(x[i]) - mean) * scale * p.weight[i];
    if (centred && p.bias) value += p.bias[i];
    out[i] = fromFloat<T>(value);
  }
}

// One warp a row: no barrier, and 16 loads in flight a lane. For rows of up to 4,096 16-bit elements (2,048 float32 ones), in whole vectors.
extern "C" __global__ void __launch_bounds__(128) rmsNormRows(const __grid_constant__ Parameters p) {
  constexpr int vectorsMax = 16;
  waitForPrevious();
  letNextStart();
  const int lane = threadIdx.x & 31;
  const int row = blockIdx.x * 4 + (threadIdx.x >> 5);
  if (row >= p.heads) return;
  const T* x = p.x + (size_t)row * p.xStride;
  T* out = p.out + (size_t)row * p.outStride;
  Vector kept[vectorsMax];
#pragma unroll
  for (int k = 0; k < vectorsMax; k++) {
    const int i = (k * 32 + lane) * lanesOf16;
    if (i < p.width) kept[k] = *reinterpret_cast<const Vector*>(x + i);
  }
  float squares = 0;
#pragma unroll
  for (int k = 0; k < vectorsMax; k++) {
    if ((k * 32 + lane) * lanesOf16 >= p.width) continue;
#pragma unroll
    for (int e = 0; e < lanesOf16; e++) {
      const float value = toFloat(kept[k].values[e]);
      squares += value * value;
    }
  }
  const float scale = rsqrtf(warpSum(squares) / p.width + p.epsilon);
#pragma unroll
  for (int k = 0; k < vectorsMax; k++) {
    const int i = (k * 32 + lane) * lanesOf16;
    if (i >= p.width) continue;
#pragma unroll
    for (int e = 0; e < lanesOf16; e++)
      kept[k].values[e] = fromFloat<T>(toFloat(kept[k].values[e]) * scale * p.weight[i + e]);
    *reinterpret_cast<Vector*>(out + i) = kept[k];
  }
}

extern "C" __global__ void rmsNorm(const __grid_constant__ Parameters p) { normalize<false>(p); }
extern "C" __global__ void layerNorm(const __grid_constant__ Parameters p) { normalize<true>(p); }
