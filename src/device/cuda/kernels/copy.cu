// A strided box of elements: [outer][middle][inner], for slices and joins that are no plain rows.
#include "common.cuh"

struct Parameters {
  const T* from;
  T* to;
  int outer, middle, inner;
  int fromOuter, fromMiddle, toOuter, toMiddle; // strides in elements
};

extern "C" __global__ void copyBox(const __grid_constant__ Parameters p) {
  waitForPrevious();
  letNextStart();
  const u64 count = (u64)p.outer * p.middle * p.inner;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
    const int inner = (int)(i % p.inner);
    const u64 rest = i / p.inner;
    const int middle = (int)(rest % p.middle);
    const u64 outer = rest / p.middle;
    p.to[outer * p.toOuter + (u64)middle * p.toMiddle + inner] = p.from[outer * p.fromOuter + (u64)middle * p.fromMiddle + inner];
  }
}
