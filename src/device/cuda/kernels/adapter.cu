// LoRA: y += B (A x) for rows of any mix of adapters, in two launches a linear. `shrink` makes A x of each row and logical linear, `expand`
// adds B times that. An adapter's rank lies in pages of 8: a page has all linears' A as [8, inputs] and B as [outputs, 8], zeros where the rank
// ends earlier.
#include "common.cuh"

// Rows of a block: those of one adapter share what is read of A and B.
#ifndef ROWS
#define ROWS 4
#endif
// Whether y is float32 (logits) whatever the activations are.
#ifndef OUT_FLOAT
#define OUT_FLOAT 0
#endif
#if OUT_FLOAT
using Y = float;
#else
using Y = T;
#endif

constexpr int partsMax = 4;
constexpr int threads = 256;
constexpr int pageRank = 8;

// One logical linear among those whose outputs lie side by side.
struct Part {
  int linear;   // its column of `ranks`
  int end;      // the column of y behind its last one
  int aOffset, bOffset; // elements into a page
};

struct Parameters {
  const T* x;               // [rows, inputs], xStride apart
  Y* y;                     // [rows, outputs], yStride apart
  float* low;               // [rows, partCount, rankMax]
  const int* slots;         // of the batch's rows; −1 is the model as it is
  const int* rowOf;         // the batch row of each row, or null where they are the same
  const int* ranks;         // [slots, linears]
  const T* const* pages;    // [slots, pagesMax]
  int rows, inputs, xStride, yStride;
  int linears, pagesMax, rankMax, partCount;
  Part parts[partsMax];
};

__device__ __forceinline__ int slotOf(const Parameters& p, int row) {
  return row < p.rows ? p.slots[p.rowOf ? p.rowOf[row] : row] : -1;
}

extern "C" __global__ void __launch_bounds__(threads) shrink(const __grid_constant__ Parameters p) {
  extern __shared__ __align__(16) unsigned char memory[];
  T* xs = reinterpret_cast<T*>(memory); // [ROWS, inputs]
  waitForPrevious();
  letNextStart();
  const int rowFirst = blockIdx.x * ROWS, part = blockIdx.y;
  const Part own = p.parts[part];
  int slots[ROWS];
  bool any = false;
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    slots[r] = slotOf(p, rowFirst + r);
    if (slots[r] >= 0 && p.ranks[slots[r] * p.linears + own.linear] == 0) slots[r] = -1;
    any = any || slots[r] >= 0;
  }
  if (!any) return;
  const bool isWhole = p.inputs % lanesOf16 == 0 && p.xStride % lanesOf16 == 0;
  const int vectors = isWhole ? p.inputs / lanesOf16 : 0;
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const T* source = p.x + (size_t)(rowFirst + r) * p.xStride;
    if (slots[r] < 0) continue;
    for (int i = threadIdx.x; i < vectors; i += threads)
      reinterpret_cast<Vector*>(xs + r * p.inputs)[i] = reinterpret_cast<const Vector*>(source)[i];
    for (int i = vectors * lanesOf16 + threadIdx.x; i < p.inputs; i += threads) xs[r * p.inputs + i] = source[i];
  }
  __syncthreads();
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int first = 0; first < ROWS; first++) {
    const int slot = slots[first];
    bool isNew = slot >= 0;
#pragma unroll
    for (int r = 0; r < first; r++) isNew = isNew && slots[r] != slot;
    if (!isNew) continue;
    const int rank = p.ranks[slot * p.linears + own.linear];
    for (int k = warp; k < rank; k += threads / 32) {
      const T* a = p.pages[slot * p.pagesMax + k / pageRank] + own.aOffset + (size_t)(k % pageRank) * p.inputs;
      float sums[ROWS] = {};
      for (int i = lane; i < vectors; i += 32) {
        const Vector w = reinterpret_cast<const Vector*>(a)[i];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
          if (slots[r] != slot) continue;
          const Vector v = reinterpret_cast<const Vector*>(xs + r * p.inputs)[i];
#pragma unroll
          for (int e = 0; e < lanesOf16; e++) sums[r] += toFloat(w.values[e]) * toFloat(v.values[e]);
        }
      }
      for (int i = vectors * lanesOf16 + lane; i < p.inputs; i += 32)
#pragma unroll
        for (int r = 0; r < ROWS; r++)
          if (slots[r] == slot) sums[r] += toFloat(a[i]) * toFloat(xs[r * p.inputs + i]);
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const float sum = warpSum(sums[r]);
        if (lane == 0 && slots[r] == slot) p.low[((size_t)(rowFirst + r) * p.partCount + part) * p.rankMax + k] = sum;
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(threads) expand(const __grid_constant__ Parameters p) {
  waitForPrevious();
  letNextStart();
  const int column = blockIdx.x * threads + threadIdx.x;
  int part = 0;
#pragma unroll
  for (int k = 0; k < partsMax - 1; k++)
    if (k < p.partCount - 1 && column >= p.parts[k].end) part = k + 1;
  const Part own = p.parts[part];
  if (column >= p.parts[p.partCount - 1].end) return;
  const int output = column - (part > 0 ? p.parts[part - 1].end : 0);
  const int rowFirst = blockIdx.y * ROWS;
  int slots[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) slots[r] = slotOf(p, rowFirst + r);
#pragma unroll
  for (int first = 0; first < ROWS; first++) {
    const int slot = slots[first];
    bool isNew = slot >= 0;
#pragma unroll
    for (int r = 0; r < first; r++) isNew = isNew && slots[r] != slot;
    if (!isNew) continue;
    const int rank = p.ranks[slot * p.linears + own.linear];
    if (rank == 0) continue;
    float sums[ROWS] = {};
    for (int page = 0; page * pageRank < rank; page++) {
      const T* b = p.pages[slot * p.pagesMax + page] + own.bOffset + (size_t)output * pageRank;
      float w[pageRank];
#pragma unroll
      for (int v = 0; v < pageRank / lanesOf16; v++) {
        const Vector vector = reinterpret_cast<const Vector*>(b)[v];
#pragma unroll
        for (int e = 0; e < lanesOf16; e++) w[v * lanesOf16 + e] = toFloat(vector.values[e]);
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        if (slots[r] != slot) continue;
        const float* low = p.low + ((size_t)(rowFirst + r) * p.partCount + part) * p.rankMax + page * pageRank;
        const int count = min(pageRank, rank - page * pageRank);
        float sum = 0;
#pragma unroll
        for (int k = 0; k < pageRank; k++)
          if (k < count) sum += w[k] * low[k];
        sums[r] += sum;
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      if (slots[r] != slot) continue;
      Y* target = p.y + (size_t)(rowFirst + r) * p.yStride + column;
      *target = fromFloat<Y>(toFloat(*target) + sums[r]);
    }
  }
}
