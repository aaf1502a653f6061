// Turns the leading `dimensions` elements of each head by position · frequency, and writes this step's keys and values into the paged KV
// cache. One block a row: the row's cosines and sines are computed once, for all heads.
//
// `heads` of q turn into qOut (which may be q). `kvHeads` of k turn into the cache; v is copied there. kvHeads 0: no cache. Without
// frequencies nothing turns.
//
// SCALED: q, k and v are sums of e4m3 numbers, still without their rows' and columns' scales.
#include "cached.cuh"

#ifndef SCALED
#define SCALED 0
#endif

struct Parameters {
  const T* q;
  T* qOut;
  const T* k;
  const T* v;
  Cached* kv;                // this layer: [block][keys, values][kvHeads][blockPositions][dimension]
  const float* frequencies;  // [dimensions / 2] or null
  const int* positions;      // [rows]
  const int* kvPlace;        // [rows] block · blockPositions + offset; padding points into a block that nobody reads
  int qStride, qOutStride, kStride, vStride;
  int heads, kvHeads, headDimension, valueDimension, blockPositions;
  int dimensions;
  float magnitude;
#if SCALED
  const float* rowScales;    // [rows]
  const float* columnScales; // of q's columns, then k's, then v's
#endif
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
  Cached* keys = nullptr;
  Cached* values = nullptr;
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
  auto keyTarget = [&](int head) -> Cached* { return keys + (size_t)(head - p.heads) * p.blockPositions * p.headDimension; };
  auto store = [&](int head, int d, float value) {
    if (head < p.heads) qOut[head * p.headDimension + d] = fromFloat<T>(value);
#if KV_FP8
    else keyTarget(head)[keyByte(d)] = (unsigned char)packE4m3(value, 0.0f);
#else
    else keyTarget(head)[d] = fromFloat<T>(value);
#endif
  };
  // Elements d to d + 3; d is a multiple of 4.
  auto storeFour = [&](int head, int d, const float (&x)[4]) {
    struct alignas(4 * sizeof(T)) Four { T values[4]; };
    Four four;
#pragma unroll
    for (int e = 0; e < 4; e++) four.values[e] = fromFloat<T>(x[e]);
    if (head < p.heads) *reinterpret_cast<Four*>(qOut + head * p.headDimension + d) = four;
#if KV_FP8
    else {
#pragma unroll
      for (int e = 0; e < 4; e += 2)
        *reinterpret_cast<unsigned short*>(keyTarget(head) + keyByte(d + e)) = packE4m3(x[e], x[e + 1]);
    }
#else
    else *reinterpret_cast<Four*>(keyTarget(head) + d) = four;
#endif
  };
  auto source = [&](int head) -> const T* {
    return head < p.heads ? q + head * p.headDimension : k + (head - p.heads) * p.headDimension;
  };
  const int all = p.heads + p.kvHeads;
#if SCALED
  const float rowScale = p.rowScales[row];
  auto scaleAt = [&](int head, int d) { return rowScale * p.columnScales[head * p.headDimension + d]; };
#else
  auto scaleAt = [](int, int) { return 1.0f; };
#endif

  // A unit is 4 pairs: 8-byte accesses in the usual 16-bit case.
  if (pairs > 0 && pairs % 4 == 0) {
    const int units = pairs / 4;
    for (int u = threadIdx.x; u < all * units; u += blockDim.x) {
      const int head = u / units, first = u % units * 4;
      const T* from = source(head);
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
#if SCALED
      const float* scales = p.columnScales + head * p.headDimension;
      const float4 lowScales = *reinterpret_cast<const float4*>(scales + a), highScales = *reinterpret_cast<const float4*>(scales + b);
      x[0] *= rowScale * lowScales.x, x[1] *= rowScale * lowScales.y, x[2] *= rowScale * lowScales.z, x[3] *= rowScale * lowScales.w;
      x[4] *= rowScale * highScales.x, x[5] *= rowScale * highScales.y, x[6] *= rowScale * highScales.z, x[7] *= rowScale * highScales.w;
#endif
      float lowOut[4], highOut[4];
#pragma unroll
      for (int e = 0; e < 4; e++) {
#if ROPE_INTERLEAVED
        const float one = x[2 * e], two = x[2 * e + 1];
#else
        const float one = x[e], two = x[e + 4];
#endif
        const float c = cosines[first + e], s = sines[first + e];
        const float left = one * c - two * s, right = one * s + two * c;
#if ROPE_INTERLEAVED
        (e < 2 ? lowOut : highOut)[2 * (e & 1)] = left;
        (e < 2 ? lowOut : highOut)[2 * (e & 1) + 1] = right;
#else
        lowOut[e] = left;
        highOut[e] = right;
#endif
      }
      storeFour(head, a, lowOut);
      storeFour(head, b, highOut);
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
      const float one = toFloat(from[a]) * scaleAt(head, a), two = toFloat(from[b]) * scaleAt(head, b);
      store(head, a, one * cosines[i] - two * sines[i]);
      store(head, b, one * sines[i] + two * cosines[i]);
    }
  }
  // What does not turn: a head's rest, or all of it.
  const int rest = p.headDimension - 2 * pairs;
  if (rest > 0) {
    for (int u = threadIdx.x; u < all * rest; u += blockDim.x) {
      const int head = u / rest, i = 2 * pairs + u % rest;
      const T* from = source(head);
      if (head >= p.heads || from != qOut + head * p.headDimension) store(head, i, toFloat(from[i]) * scaleAt(head, i));
    }
  }
  const int valuesAll = p.kvHeads * p.valueDimension;
  auto valueTarget = [&](int i) { return values + (size_t)(i / p.valueDimension) * p.blockPositions * p.valueDimension + i % p.valueDimension; };
  if (p.valueDimension % lanesOf16 == 0 && p.vStride % lanesOf16 == 0) {
    for (int i = threadIdx.x * lanesOf16; i < valuesAll; i += blockDim.x * lanesOf16) {
      Vector vector = *reinterpret_cast<const Vector*>(v + i);
#if SCALED
      float scales[lanesOf16];
      loadFloats(scales, p.columnScales + all * p.headDimension + i);
#pragma unroll
      for (int e = 0; e < lanesOf16; e++) vector.values[e] = fromFloat<T>(toFloat(vector.values[e]) * rowScale * scales[e]);
#endif
#if KV_FP8
      unsigned short* to = reinterpret_cast<unsigned short*>(valueTarget(i));
#pragma unroll
      for (int e = 0; e < lanesOf16; e += 2) to[e / 2] = packE4m3(toFloat(vector.values[e]), toFloat(vector.values[e + 1]));
#else
      *reinterpret_cast<Vector*>(valueTarget(i)) = vector;
#endif
    }
  } else {
    for (int i = threadIdx.x; i < valuesAll; i += blockDim.x)
#if KV_FP8
      *valueTarget(i) = (unsigned char)packE4m3(toFloat(v[i]) * scaleAt(all, i), 0.0f);
#else
      *valueTarget(i) = fromFloat<T>(toFloat(v[i]) * scaleAt(all, i));
#endif
  }
}
