// y[b, o] = Σ x[b, i] · weight[o, i] for few rows b (up to 8): the weight is streamed once through the tensor cores, 16 rows of it as
// the matrix and the rows of x as the 8 columns. Bounded by memory bandwidth.
//
// The order of i within a sum is free, so a lane loads 16 consecutive bytes (8 elements) of a row and the fragments of x follow the
// same order: no shared memory and no shuffles for the weight.
//
// NORM: x is RMS-normed on the way in (one block holds all rows of x in shared memory anyway).
// GATED: weight holds gate rows then up rows; the result is silu(gate) · up.
// FP8: weight is e4m3 with a float32 scale a row; its elements become float16 in registers, and so does x.
// ROPE: weight holds q, k and v rows; q and k turn (neighbouring elements are pairs), q goes to y, k and v into the paged KV cache.
#include "cached.cuh"

#ifndef WARPS
#define WARPS 8
#endif
#ifndef UNROLL
#define UNROLL 4
#endif
// Blocks that fit a multiprocessor together, with registers to match: those of the kernel behind this one too.
#ifndef MIN_BLOCKS
#define MIN_BLOCKS 3
#endif
#ifndef NORM
#define NORM 0
#endif
#ifndef GATED
#define GATED 0
#endif
#ifndef ROPE
#define ROPE 0
#endif
#ifndef OUT_FLOAT
#define OUT_FLOAT 0
#endif
#ifndef FP8
#define FP8 0
#endif

#if FP8
using Weight = unsigned char;
#else
using Weight = T;
#endif

struct Parameters {
  const Weight* weight;  // [out, in]; GATED: [2 · out, in]
  const T* x;            // [batch, in], rows xStride apart
  const float* norm;     // [in]
  const T* bias;         // [out] or null
  const T* residual;     // [batch, out], rows residualStride apart, or null; may be y
  void* y;               // [batch, out], rows yStride apart
  int batch, in, out;
  int xStride, residualStride, yStride;
  float epsilon;
#if FP8
  const float* weightScales; // [out]; GATED: [2 · out]
#endif
#if ROPE
  float magnitude;
  Cached* kv;                    // this layer: [block][keys, values][kvHeads][blockPositions][headDimension]
  const float* frequencies; // [dimensions / 2]
  const int* positions;     // [batch]
  const int* kvPlace;       // [batch] block · blockPositions + offset
  int heads, kvHeads, headDimension, blockPositions, dimensions;
#endif
};

// Elements that a lane and a warp (4 lanes a row) take of a row in one turn.
constexpr int laneElements = 16 / sizeof(Weight);
constexpr int turnElements = 4 * laneElements;

// x becomes float16 where the weight does. bfloat16 reaches further: without a norm before it, it is kept this much smaller.
[[maybe_unused]] constexpr float halfScale = FP8 && ACTIVATION == 2 && !NORM ? 0.0625f : 1.0f;

__device__ __forceinline__ u32 packInput(float low, float high) {
#if FP8
  return packHalf2(low, high);
#else
  return pack2(low, high);
#endif
}

extern "C" __global__ void __launch_bounds__(WARPS * 32, MIN_BLOCKS) gemv(const __grid_constant__ Parameters p) {
  extern __shared__ __align__(16) unsigned char memory[];
  // x, each row padded by 16 bytes so that the 8 rows of a fragment load lie in different banks.
  T* xs = reinterpret_cast<T*>(memory);
  const int pitch = p.in + 8;
  float* partial = reinterpret_cast<float*>(xs + p.batch * pitch);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int row = lane >> 2, part = lane & 3;
  const int tiles = (p.out + 15) / 16;
  const int chunk = turnElements * UNROLL * WARPS;

  // A ring of loads in flight: as soon as one has been used, the one that is UNROLL turns ahead takes its place, across tiles too. So the
  // weights of the first turns are on their way before x is ready.
  constexpr int matrices = GATED ? 2 : 1;
  uint4 w[matrices][UNROLL][2];
  auto fetch = [&](int u, int tile, int at) {
    const int i = at + (warp * UNROLL + u) * turnElements + part * laneElements;
    const bool inside = i < p.in && tile < tiles;
#pragma unroll
    for (int m = 0; m < matrices; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int o = min(tile * 16 + row + half * 8, p.out - 1);
        const Weight* source = p.weight + (size_t)(m * p.out + o) * p.in + i;
        w[m][u][half] = inside ? loadStreaming(source) : make_uint4(0, 0, 0, 0);
      }
    }
  };
  int tile = blockIdx.x;
#pragma unroll
  for (int u = 0; u < UNROLL; u++) fetch(u, tile, 0);
  letNextStart();
  waitForPrevious();

#if !NORM
  for (int b = 0; b < p.batch; b++)
    for (int i = threadIdx.x * 8; i < p.in; i += WARPS * 256) {
      uint4 v = *reinterpret_cast<const uint4*>(p.x + (size_t)b * p.xStride + i);
#if FP8 && ACTIVATION == 2
      u32* words = reinterpret_cast<u32*>(&v);
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const float2 pair = unpack2(words[k]);
        words[k] = packHalf2(pair.x * halfScale, pair.y * halfScale);
      }
#endif
      *reinterpret_cast<uint4*>(xs + b * pitch + i) = v;
    }
#endif
#if NORM
  {
    float* sums = partial;
    for (int b = 0; b < p.batch; b++) {
      float squares = 0;
      for (int i = threadIdx.x * 8; i < p.in; i += WARPS * 256) {
        uint4 v = *reinterpret_cast<const uint4*>(p.x + (size_t)b * p.xStride + i);
        *reinterpret_cast<uint4*>(xs + b * pitch + i) = v;
        const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int k = 0; k < 4; k++) {
          float2 pair = unpack2(words[k]);
          squares += pair.x * pair.x + pair.y * pair.y;
        }
      }
      squares = warpSum(squares);
      if (lane == 0) sums[b * WARPS + warp] = squares;
    }
    __syncthreads();
    for (int b = 0; b < p.batch; b++) {
      float total = 0;
#pragma unroll
      for (int k = 0; k < WARPS; k++) total += sums[b * WARPS + k];
      const float scale = rsqrtf(total / p.in + p.epsilon);
      for (int i = threadIdx.x * 8; i < p.in; i += WARPS * 256) {
        uint4 v = *reinterpret_cast<uint4*>(xs + b * pitch + i);
        u32 words[4] = {v.x, v.y, v.z, v.w};
        const float4 n0 = *reinterpret_cast<const float4*>(p.norm + i);
        const float4 n1 = *reinterpret_cast<const float4*>(p.norm + i + 4);
        const float n[8] = {n0.x, n0.y, n0.z, n0.w, n1.x, n1.y, n1.z, n1.w};
#pragma unroll
        for (int k = 0; k < 4; k++) {
          float2 pair = unpack2(words[k]);
          words[k] = packInput(pair.x * scale * n[2 * k], pair.y * scale * n[2 * k + 1]);
        }
        *reinterpret_cast<uint4*>(xs + b * pitch + i) = make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
  }
#endif
  __syncthreads();

  // Sums of two tiles alternate between two places, and warps take turns at adding them up: one barrier a tile, and nobody waits for what is
  // read from memory there, which is asked for ahead.
  constexpr int groups = WARPS / 4;
  for (int round = 0; tile < tiles; tile += gridDim.x, round++) {
    const bool adds = (threadIdx.x >> 7) == round % groups;
    const int e = threadIdx.x & 127, k = e >> 5;
    // Element k of lane (row, part): weight row `row + 8 · (k / 2)`, column `2 · part + k % 2`.
    const int o = tile * 16 + row + 8 * (k >> 1), b = 2 * part + (k & 1);
    const bool inside = adds && b < p.batch && o < p.out;
    float biases[matrices] = {};
    [[maybe_unused]] float scales[matrices], residual = 0;
    if (inside) {
#pragma unroll
      for (int m = 0; m < matrices; m++) {
        if (p.bias) biases[m] = toFloat(p.bias[m * p.out + o]);
#if FP8
        scales[m] = p.weightScales[m * p.out + o] * (1.0f / halfScale);
#endif
      }
      if (p.residual) residual = toFloat(p.residual[(size_t)b * p.residualStride + o]);
    }
    float* sums = partial + (round & 1) * matrices * WARPS * 128;
    float c[matrices][4] = {};
    for (int at = 0; at < p.in; at += chunk) {
      const bool last = at + chunk >= p.in;
      const int nextTile = last ? tile + gridDim.x : tile;
      const int nextAt = last ? 0 : at + chunk;
#pragma unroll
      for (int u = 0; u < UNROLL; u++) {
        const int i = at + (warp * UNROLL + u) * turnElements + part * laneElements;
        const bool hasX = i < p.in && row < p.batch;
        const uint4* source = reinterpret_cast<const uint4*>(xs + row * pitch + i);
        const uint4 x = hasX ? source[0] : make_uint4(0, 0, 0, 0);
#if FP8
        const uint4 y = hasX ? source[1] : make_uint4(0, 0, 0, 0);
        const u32 xWords[8] = {x.x, x.y, x.z, x.w, y.x, y.y, y.z, y.w};
#endif
#pragma unroll
        for (int m = 0; m < matrices; m++) {
          const uint4 top = w[m][u][0], low = w[m][u][1];
#if FP8
          const u32 topWords[4] = {top.x, top.y, top.z, top.w}, lowWords[4] = {low.x, low.y, low.z, low.w};
#pragma unroll
          for (int k = 0; k < 4; k++) {
            u32 a[4];
            unpackE4m3(topWords[k], a[0], a[2]);
            unpackE4m3(lowWords[k], a[1], a[3]);
            mmaHalf(c[m], a, xWords[2 * k], xWords[2 * k + 1]);
          }
#else
          const u32 first[4] = {top.x, low.x, top.y, low.y};
          mma(c[m], first, x.x, x.y);
          const u32 second[4] = {top.z, low.z, top.w, low.w};
          mma(c[m], second, x.z, x.w);
#endif
        }
        fetch(u, nextTile, nextAt);
      }
    }
#pragma unroll
    for (int m = 0; m < matrices; m++)
#pragma unroll
      for (int part = 0; part < 4; part++) sums[(m * WARPS + warp) * 128 + part * 32 + lane] = c[m][part];
    __syncthreads();
    if (!adds) continue;
    float sum[matrices] = {};
#pragma unroll
    for (int m = 0; m < matrices; m++) {
#pragma unroll
      for (int other = 0; other < WARPS; other++) sum[m] += sums[(m * WARPS + other) * 128 + e];
#if FP8
      sum[m] *= scales[m];
#endif
      sum[m] += biases[m];
    }
    float value = sum[0];
#if ROPE
    // Pairs are neighbouring rows of the weight, four lanes apart; whole warps are here.
    const float other = __shfl_xor_sync(0xffffffffu, value, 4);
    const int head = o / p.headDimension, d = o % p.headDimension;
    if (!inside) continue;
    if (head < p.heads + p.kvHeads && d < p.dimensions) {
      float sine, cosine;
      sincosf((float)p.positions[b] * p.frequencies[d / 2], &sine, &cosine);
      value = (d & 1 ? other * sine + value * cosine : value * cosine - other * sine) * p.magnitude;
    }
    if (head < p.heads) {
      reinterpret_cast<T*>(p.y)[(size_t)b * p.yStride + o] = fromFloat<T>(value);
    } else {
      const int place = p.kvPlace[b];
      const size_t cacheRow = (size_t)(place / p.blockPositions) * 2 * p.kvHeads + head - p.heads;
      Cached* target = p.kv + (cacheRow * p.blockPositions + place % p.blockPositions) * p.headDimension;
#if KV_FP8
      const bool isKey = head < p.heads + p.kvHeads;
      target[isKey ? keyByte(d) : d] = (unsigned char)packE4m3(value, 0.0f);
#else
      target[d] = fromFloat<T>(value);
#endif
    }
#else
    if (!inside) continue;
#if GATED
    value = __fdividef(value, 1.0f + __expf(-value)) * sum[matrices - 1];
#endif
    value += residual;
#if OUT_FLOAT
    reinterpret_cast<float*>(p.y)[(size_t)b * p.yStride + o] = value;
#else
    reinterpret_cast<T*>(p.y)[(size_t)b * p.yStride + o] = fromFloat<T>(value);
#endif
#endif
  }
}
