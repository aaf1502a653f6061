// Between the activations' type and float32: results that callers read are float32.
#include "common.cuh"

struct Parameters {
  const T* from;      // rows of width, fromStride apart
  float* to;          // [rows, width]
  const int* ids;     // which rows, or null for all
  int rows, width, fromStride;
};

extern "C" __global__ void toFloat32(const __grid_constant__ Parameters p) {
  waitForPrevious();
  letNextStart();
  const u64 count = (u64)p.rows * p.width;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
    const u64 row = i / p.width;
    const u64 from = p.ids ? p.ids[row] : row;
    p.to[i] = toFloat(p.from[from * p.fromStride + i % p.width]);
  }
}

// to[row] += from, for every row.
extern "C" __global__ void addBias(const __grid_constant__ Parameters p) {
  waitForPrevious();
  letNextStart();
  const u64 count = (u64)p.rows * p.width;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x)
    p.to[i] += toFloat(p.from[i % p.width]);
}

// The same for rows of activations, fromStride apart.
extern "C" __global__ void addBiasSame(const __grid_constant__ Parameters p) {
  waitForPrevious();
  letNextStart();
  T* to = reinterpret_cast<T*>(p.to);
  const u64 count = (u64)p.rows * p.width;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
    T& value = to[i / p.width * p.fromStride + i % p.width];
    value = fromFloat<T>(toFloat(value) + toFloat(p.from[i % p.width]));
  }
}
