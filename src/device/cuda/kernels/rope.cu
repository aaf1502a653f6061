// Turns the leading `dimensions` elements of each head by position · frequency, and writes this step's keys and values into the paged KV
// cache. One block a row: the row's cosines and sines are computed once, for all heads.
//
// `heads` of q turn into qOut (which may be q). `kvHeads` of k turn into the cache; v is copied there. kvHeads 0: no cache. Without
// frequencies nothing turns.
#include "common.cuh"

struct Parameters {
  const T* q;
  T* qOut;
  const T* k;
  const T* v;
  T* kv;                     // this layer: [block][keys, values][kvHeads][blockPositions][dimension]
  const float* frequencies;  // [dimensions / 2] or null
  const int* positions;      // [rows]
  const int* kvPlace;        // [rows] block · blockPositions + offset; padding points into a block that nobody reads
  int qStride, qOutStride, kStride, vStride;
  int heads, kvHeads, headDimension, valueDimension, blockPositions;
  int dimensions;
  float magnitude;
};

constexpr int pairsMax = 256;

extern "C" __global__ void rope(const __grid_constant__ Parameters p) {
  __shared__ float cosines[pairsMax], sines[pairsMax];
  waitForPrevious();
  letNextStart();
  const int row = blockIdx.x;
  const int pairs = p.frequencies ? p.dimensions / 2 : 0;
  if (pairs > 0) {
    const float position = (float)p.positions[row];
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
      float sine, cosine;
      sincosf(position * p.frequencies[i], &sine, &cosine);
      cosines[i] = cosine * p.magnitude;
      sines[i] = sine * p.magnitude;
    }
    __syncthreads();
  }
  T* keys = nullptr;
  T* values = nullptr;
  if (p.kvHeads > 0) {
    const int place = p.kvPlace[row];
    const size_t block = place / p.blockPositions, offset = place % p.blockPositions;
    const size_t keyElements = (size_t)p.kvHeads * p.blockPositions * p.headDimension;
    const size_t valueElements = (size_t)p.kvHeads * p.blockPositions * p.valueDimension;
    keys = p.kv + block * (keyElements + valueElements) + offset * p.headDimension;
    values = p.kv + block * (keyElements + valueElements) + keyElements + offset * p.valueDimension;
  }
  const T* q = p.q + (size_t)row * p.qStride;
  T* qOut = p.qOut + (size_t)row * p.qOutStride;
  const T* k = p.k + (size_t)row * p.kStride;
  const T* v = p.v + (size_t)row * p.vStride;
  auto target = [&](int head) -> T* {
    return head < p.heads ? qOut + head * p.headDimension
                          : keys + (size_t)(head - p.heads) * p.blockPositions * p.headDimension;
  };
  auto source = [&](int head) -> const T* {
    return head < p.heads ? q + head * p.headDimension : k + (head - p.heads) * p.headDimension;
  };
  const int all = p.heads + p.kvHeads;

  // A unit is 4 pairs: 8-byte accesses in the usual 16-bit case.
  if (pairs > 0 && pairs % 4 == 0) {
    const int units = pairs / 4;
    for (int u = threadIdx.x; u < all * units; u += blockDim.x) {
      const int head = u / units, first = u % units * 4;
      const T* from = source(head);
      T* to = target(head);
      float x[8];
#if ROPE_INTERLEAVED
      const int a = 2 * first, b = a + 4;
#else
      const int a = first, b = first + pairs;
#endif
      struct alignas(4 * sizeof(T)) Four { T values[4]; };
      const Four low = *reinterpret_cast<const Four*>(from + a), high = *reinterpret_cast<const Four*>(from + b);
#pragma unroll
      for (int e = 0; e < 4; e++) x[e] = toFloat(low.values[e]), x[e + 4] = toFloat(high.values[e]);
      Four lowOut, highOut;
#pragma unroll
      for (int e = 0; e < 4; e++) {
#if ROPE_INTERLEAVED
        const float one = x[2 * e], two = x[2 * e + 1];
#else
        const float one = x[e], two = x[e + 4];
#endif
        const float c = cosines[first + e], s = sines[first + e];
        const T first_ = fromFloat<T>(one * c - two * s), second_ = fromFloat<T>(one * s + two * c);
#if ROPE_INTERLEAVED
        (e < 2 ? lowOut : highOut).values[2 * (e & 1)] = first_;
        (e < 2 ? lowOut : highOut).values[2 * (e & 1) + 1] = second_;
#else
        lowOut.values[e] = first_;
        highOut.values[e] = second_;
#endif
      }
      *reinterpret_cast<Four*>(to + a) = lowOut;
      *reinterpret_cast<Four*>(to + b) = highOut;
    }
  } else {
    for (int u = threadIdx.x; u < all * pairs; u += blockDim.x) {
      const int head = u / pairs, i = u % pairs;
#if ROPE_INTERLEAVED
      const int a = 2 * i, b = a + 1;
#else
      const int a = i, b = i + pairs;
#endif
      const T* from = source(head);
      T* to = target(head);
      const float one = toFloat(from[a]), two = toFloat(from[b]);
      to[a] = fromFloat<T>(one * cosines[i] - two * sines[i]);
      to[b] = fromFloat<T>(one * sines[i] + two * cosines[i]);
    }
  }
  // What does not turn: a head's rest, or all of it.
  const int rest = p.headDimension - 2 * pairs;
  if (rest > 0) {
    for (int u = threadIdx.x; u < all * rest; u += blockDim.x) {
      const int head = u / rest, i = 2 * pairs + u % rest;
      const T* from = source(head);
      T* to = target(head);
      if (from != to) to[i] = from[i];
    }
  }
  const int valuesAll = p.kvHeads * p.valueDimension;
  if (p.valueDimension % lanesOf16 == 0 && p.vStride % lanesOf16 == 0) {
    for (int i = threadIdx.x * lanesOf16; i < valuesAll; i += blockDim.x * lanesOf16)
      *reinterpret_cast<Vector*>(values + (size_t)(i / p.valueDimension) * p.blockPositions * p.valueDimension + i % p.valueDimension) =
          *reinterpret_cast<const Vector*>(v + i);
  } else {
    for (int i = threadIdx.x; i < valuesAll; i += blockDim.x)
      values[(size_t)(i / p.valueDimension) * p.blockPositions * p.valueDimension + i % p.valueDimension] = v[i];
  }
}
