// exp(x) / Σ exp(x) over each row, shifted by the row's largest element. One block a row.
#include "common.cuh"

struct Parameters {
  const T* x;
  T* out;
  int width, xStride, outStride;
};

extern "C" __global__ void softmax(const __grid_constant__ Parameters p) {
  __shared__ float scratch[32];
  waitForPrevious();
  letNextStart();
  const T* x = p.x + (size_t)blockIdx.x * p.xStride;
  T* out = p.out + (size_t)blockIdx.x * p.outStride;
  float largest = minusInfinity;
  for (int i = threadIdx.x; i < p.width; i += blockDim.x) largest = fmaxf(largest, toFloat(x[i]));
  largest = warpMax(largest);
  if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = largest;
  __syncthreads();
  largest = warpMax((threadIdx.x & 31) < blockDim.x / 32 ? scratch[threadIdx.x & 31] : minusInfinity);
  float sum = 0;
  for (int i = threadIdx.x; i < p.width; i += blockDim.x) sum += expf(toFloat(x[i]) - largest);
  sum = blockSum(sum, scratch);
  for (int i = threadIdx.x; i < p.width; i += blockDim.x) out[i] = fromFloat<T>(expf(toFloat(x[i]) - largest) / sum);
}
