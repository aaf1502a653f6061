// Attention for any head dimensions and any type, over the paged KV cache: what the fast kernels do not take. One block a row and head;
// keys in turns of one a thread, maxima and sums kept online.
#include "common.cuh"

struct Parameters {
  const T* q;
  T* out;
  const T* kv;              // this layer: [block][keys, values][kvHeads][blockPositions][dimension]
  const int* positions;     // [rows]
  const int* tables;        // [rows] where the row's block table starts; −1 is padding
  const int* blocks;
  int qStride, outStride;
  int heads, kvHeads, headDimension, valueDimension, blockPositions, window;
  float scale, softcap;
};

constexpr int threads = 128;
constexpr int valuesPerThread = 4;

extern "C" __global__ void __launch_bounds__(threads) attentionAny(const __grid_constant__ Parameters p) {
  __shared__ float weights[threads];
  __shared__ float scratch[32];
  waitForPrevious();
  letNextStart();
  const int row = blockIdx.x, head = blockIdx.y;
  const int table = p.tables[row];
  if (table < 0) return;
  const int position = p.positions[row];
  const int first = p.window > 0 ? max(0, position - p.window + 1) : 0;
  const int kvHead = head / (p.heads / p.kvHeads);
  const size_t keyElements = (size_t)p.blockPositions * p.headDimension;
  const size_t valueElements = (size_t)p.blockPositions * p.valueDimension;
  const size_t blockElements = (keyElements + valueElements) * p.kvHeads;
  const T* q = p.q + (size_t)row * p.qStride + head * p.headDimension;
  float most = minusInfinity, total = 0, o[valuesPerThread] = {};
  for (int start = first; start <= position; start += threads) {
    const int at = start + threadIdx.x;
    float score = minusInfinity;
    if (at <= position) {
      const size_t block = p.blocks[table + at / p.blockPositions];
      const T* key = p.kv + block * blockElements + kvHead * keyElements + (size_t)(at % p.blockPositions) * p.headDimension;
      float sum = 0;
      for (int i = 0; i < p.headDimension; i++) sum += toFloat(q[i]) * toFloat(key[i]);
      score = sum * p.scale;
      if (p.softcap > 0) score = p.softcap * tanhf(score / p.softcap);
    }
    float largest = warpMax(score);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = largest;
    __syncthreads();
    largest = fmaxf(fmaxf(scratch[0], scratch[1]), fmaxf(scratch[2], scratch[3]));
    const float now = fmaxf(most, largest);
    const float correction = expf(most - now);
    most = now;
    const float weight = expf(score - now);
    weights[threadIdx.x] = weight;
    total = total * correction + blockSum(weight, scratch);
    __syncthreads();
    const int count = min(threads, position - start + 1);
#pragma unroll
    for (int k = 0; k < valuesPerThread; k++) {
      const int d = threadIdx.x + k * threads;
      if (d >= p.valueDimension) continue;
      float sum = o[k] * correction;
      for (int j = 0; j < count; j++) {
        const size_t block = p.blocks[table + (start + j) / p.blockPositions];
        const T* values = p.kv + block * blockElements + p.kvHeads * keyElements + kvHead * valueElements;
        sum += weights[j] * toFloat(values[(size_t)((start + j) % p.blockPositions) * p.valueDimension + d]);
      }
      o[k] = sum;
    }
  }
#pragma unroll
  for (int k = 0; k < valuesPerThread; k++) {
    const int d = threadIdx.x + k * threads;
    if (d < p.valueDimension) p.out[(size_t)row * p.outStride + head * p.valueDimension + d] = fromFloat<T>(o[k] / total);
  }
}
