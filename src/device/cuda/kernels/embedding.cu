// Rows of a table by token id. A negative id −1−r means: what output row r of the step before sampled, which is still on the GPU.
// With `ids` taken as row numbers it also gathers the rows whose logits are wanted.
#include "common.cuh"

struct Parameters {
  const T* table;     // rows of width, tableStride apart
  const int* ids;     // [rows]
  const int* sampled; // tokens of the step before, or null where no id is negative
  T* out;             // rows of width, outStride apart
  int width, tableStride, outStride;
};

extern "C" __global__ void embedding(const __grid_constant__ Parameters p) {
  waitForPrevious();
  letNextStart();
  int id = p.ids[blockIdx.x];
  if (id < 0) id = p.sampled ? max(0, p.sampled[-1 - id]) : 0;
  const T* from = p.table + (size_t)id * p.tableStride;
  T* to = p.out + (size_t)blockIdx.x * p.outStride;
  if (p.width % lanesOf16 == 0 && p.tableStride % lanesOf16 == 0 && p.outStride % lanesOf16 == 0) {
    for (int i = threadIdx.x * lanesOf16; i < p.width; i += blockDim.x * lanesOf16)
      *reinterpret_cast<Vector*>(to + i) = *reinterpret_cast<const Vector*>(from + i);
  } else {
    for (int i = threadIdx.x; i < p.width; i += blockDim.x) to[i] = from[i];
  }
}
