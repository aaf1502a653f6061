// Causal attention of many query rows of one sequence over its paged KV (their own keys and values are in it already), on the tensor
// cores: a block takes 128 rows of one head, a warp 32 of them; scores stay in registers, maxima and sums are kept online.
#include "cached.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#ifndef BLOCK
#define BLOCK 32
#endif

constexpr int warps = 4;
constexpr int rowTiles = 2;                         // of 16 rows, a warp
constexpr int blockRows = warps * rowTiles * 16;
constexpr int tile = 64;                            // positions a turn
constexpr int chunks = HEAD / 8;                    // 16-byte pieces of a row of q
constexpr int cachedElements = 16 / sizeof(Cached);
constexpr int cachedChunks = HEAD / cachedElements;
constexpr int steps = HEAD / 16;

// Up to 128 consecutive rows of a sequence: the first one's batch row and position, how many, and the block table's start.
struct Item {
  int row, rows, position, blockStart;
};

struct Parameters {
  const T* q;
  T* out;
  const Cached* kv;       // this layer: [block][keys, values][kvHeads][BLOCK][HEAD]
  const Item* items;
  const int* itemCount;
  const int* blocks;
  int qStride, outStride;
  int heads, kvHeads, window;
  float scale, softcap;
};

extern "C" __global__ void __launch_bounds__(warps * 32) attentionPrefill(const __grid_constant__ Parameters p) {
  extern __shared__ __align__(16) unsigned char memory[];
  waitForPrevious();
  letNextStart();
  if (blockIdx.y >= *p.itemCount) return;
  const Item item = p.items[blockIdx.y];
  const int head = blockIdx.x;
  const int kvHead = head / (p.heads / p.kvHeads);
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  const int row = lane >> 2, part = lane & 3;

  T* qs = reinterpret_cast<T*>(memory);
  const u32 qAddress = sharedAddress(qs);
  const u32 keyAddress = qAddress + blockRows * HEAD * sizeof(T);
  const u32 valueAddress = keyAddress + tile * HEAD * sizeof(Cached);
  auto swizzled = [](int r, int column) -> u32 { return (u32)(r * chunks + (column ^ (r & 7))) * 16; };
  auto cachedAt = [](int r, int column) -> u32 {
    return (u32)(r * cachedChunks + (column ^ (cachedChunks == 4 ? (r >> 1) & 3 : r & 7))) * 16;
  };

  const size_t headElements = (size_t)BLOCK * HEAD;
  const size_t blockElements = 2 * headElements * p.kvHeads;
  const Cached* keys = p.kv + kvHead * headElements;
  const size_t valuesAfter = headElements * p.kvHeads;
  const int end = item.position + item.rows;
  const int first = p.window > 0 ? max(0, item.position - p.window + 1) : 0;
  const int tileFirst = first / tile, tileLast = (end + tile - 1) / tile;

  auto fetch = [&](int at, u32 target, size_t after) {
    if (at < tileLast) {
#pragma unroll
      for (int k = 0; k < tile * cachedChunks / (warps * 32); k++) {
        const int c = thread + k * warps * 32, r = c / cachedChunks, column = c % cachedChunks;
        const int position = at * tile + r;
        const bool valid = position < end;
        const int block = valid ? __ldg(p.blocks + item.blockStart + position / BLOCK) : 0;
        copy16(target + cachedAt(r, column), keys + after + block * blockElements + (size_t)(position % BLOCK) * HEAD + column * cachedElements, valid);
      }
    }
    commitCopies();
  };

#pragma unroll
  for (int k = 0; k < blockRows * chunks / (warps * 32); k++) {
    const int c = thread + k * warps * 32, r = c / chunks, column = c % chunks;
    copy16(qAddress + swizzled(r, column), p.q + (size_t)(item.row + min(r, item.rows - 1)) * p.qStride + (size_t)head * HEAD + column * 8, r < item.rows);
  }
  fetch(tileFirst, keyAddress, 0);
  fetch(tileFirst, valueAddress, valuesAfter);
#if KV_FP8 && ACTIVATION == 2
  // What this thread copied itself becomes float16 where it lies.
  waitForCopies<1>();
#pragma unroll
  for (int k = 0; k < blockRows * chunks / (warps * 32); k++) {
    const int c = thread + k * warps * 32, r = c / chunks, column = c % chunks;
    u32* words = reinterpret_cast<u32*>(memory + swizzled(r, column));
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const float2 pair = unpack2(words[e]);
      words[e] = packHalf2(pair.x, pair.y);
    }
  }
#endif

  constexpr float log2e = 1.4426950408889634f;
  float most[rowTiles][2], total[rowTiles][2];
  float o[rowTiles][HEAD / 8][4] = {};
#pragma unroll
  for (int m = 0; m < rowTiles; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) most[m][h] = minusInfinity, total[m][h] = 0;

  for (int at = tileFirst; at < tileLast; at++) {
    waitForCopies<1>();
    __syncthreads();
    float s[rowTiles][tile / 8][4] = {};
#pragma unroll
    for (int k = 0; k < steps; k++) {
      u32 a[rowTiles][4];
#pragma unroll
      for (int m = 0; m < rowTiles; m++)
        loadMatrix4(a[m], qAddress + swizzled(warp * rowTiles * 16 + m * 16 + (lane & 15), 2 * k + (lane >> 4)));
#if KV_FP8
      // A register of bytes is both registers of a fragment of float16 (keyByte).
#pragma unroll
      for (int n = 0; n < tile / 32; n++) {
        u32 words[4];
        loadMatrix4(words, keyAddress + cachedAt(n * 32 + lane, k));
#pragma unroll
        for (int q = 0; q < 4; q++) {
          u32 b0, b1;
          unpackE4m3(words[q], b0, b1);
#pragma unroll
          for (int m = 0; m < rowTiles; m++) mmaHalf(s[m][4 * n + q], a[m], b0, b1);
        }
      }
#else
#pragma unroll
      for (int n = 0; n < tile / 16; n++) {
        u32 b[4];
        loadMatrix4(b, keyAddress + swizzled(n * 16 + (lane & 7) + 8 * (lane >> 4), 2 * k + ((lane >> 3) & 1)));
#pragma unroll
        for (int m = 0; m < rowTiles; m++) {
          mma(s[m][2 * n], a[m], b[0], b[1]);
          mma(s[m][2 * n + 1], a[m], b[2], b[3]);
        }
      }
#endif
    }
    __syncthreads();
    fetch(at + 1, keyAddress, 0);

    // Only tiles that some row does not wholly see are masked.
    const int tileStart = at * tile;
    const bool masked = tileStart + tile - 1 > item.position || (p.window > 0 && tileStart <= end - 1 - p.window);
#pragma unroll
    for (int m = 0; m < rowTiles; m++) {
      if (p.softcap > 0) {
#pragma unroll
        for (int n = 0; n < tile / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) s[m][n][e] = p.softcap * tanhf(s[m][n][e] * p.scale / p.softcap) / p.scale;
      }
      if (masked) {
        const int position = item.position + warp * rowTiles * 16 + m * 16 + row;
#pragma unroll
        for (int n = 0; n < tile / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) {
            const int key = tileStart + n * 8 + 2 * part + (e & 1);
            const int query = position + 8 * (e >> 1);
            if (key > query || (p.window > 0 && key <= query - p.window)) s[m][n][e] = minusInfinity;
          }
      }
      const float factor = p.scale * log2e;
#pragma unroll
      for (int h = 0; h < 2; h++) {
        float largest = minusInfinity;
#pragma unroll
        for (int n = 0; n < tile / 8; n++) largest = fmaxf(largest, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
        const float now = fmaxf(most[m][h], largest);
        const float base = now == minusInfinity ? 0.0f : now * factor;
        const float correction = exp2Fast(most[m][h] * factor - base);
        most[m][h] = now;
        float sum = 0;
#pragma unroll
        for (int n = 0; n < tile / 8; n++)
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; e++) {
            s[m][n][e] = exp2Fast(s[m][n][e] * factor - base);
            sum += s[m][n][e];
          }
        total[m][h] = total[m][h] * correction + sum;
#pragma unroll
        for (int n = 0; n < HEAD / 8; n++) {
          o[m][n][2 * h] *= correction;
          o[m][n][2 * h + 1] *= correction;
        }
      }
    }
    waitForCopies<1>();
    __syncthreads();
#pragma unroll
    for (int k = 0; k < tile / 16; k++) {
      u32 a[rowTiles][4];
#pragma unroll
      for (int m = 0; m < rowTiles; m++) {
        a[m][0] = packWeights(s[m][2 * k][0], s[m][2 * k][1]);
        a[m][1] = packWeights(s[m][2 * k][2], s[m][2 * k][3]);
        a[m][2] = packWeights(s[m][2 * k + 1][0], s[m][2 * k + 1][1]);
        a[m][3] = packWeights(s[m][2 * k + 1][2], s[m][2 * k + 1][3]);
      }
#if KV_FP8
      // Bytes are transposed in pairs: of 16 elements, the even ones are one fragment, the odd ones the next.
#pragma unroll
      for (int n = 0; n < HEAD / 16; n += 2) {
        u32 words[4];
        loadMatrix4Transposed(words, valueAddress + cachedAt(k * 16 + (lane & 15), n + (lane >> 4)));
#pragma unroll
        for (int half = 0; half < 2; half++) {
          u32 even0, even1, odd0, odd1;
          unpackE4m3(__byte_perm(words[2 * half], 0, 0x3120), even0, odd0);
          unpackE4m3(__byte_perm(words[2 * half + 1], 0, 0x3120), even1, odd1);
#pragma unroll
          for (int m = 0; m < rowTiles; m++) {
            mmaHalf(o[m][2 * (n + half)], a[m], even0, even1);
            mmaHalf(o[m][2 * (n + half) + 1], a[m], odd0, odd1);
          }
        }
      }
#else
#pragma unroll
      for (int n = 0; n < HEAD / 16; n++) {
        u32 b[4];
        loadMatrix4Transposed(b, valueAddress + swizzled(k * 16 + (lane & 15), 2 * n + (lane >> 4)));
#pragma unroll
        for (int m = 0; m < rowTiles; m++) {
          mma(o[m][2 * n], a[m], b[0], b[1]);
          mma(o[m][2 * n + 1], a[m], b[2], b[3]);
        }
      }
#endif
    }
    __syncthreads();
    fetch(at + 1, valueAddress, valuesAfter);
  }
  waitForCopies<0>();

#pragma unroll
  for (int m = 0; m < rowTiles; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float sum = total[m][h];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const int r = warp * rowTiles * 16 + m * 16 + row + 8 * h;
      if (r >= item.rows) continue;
      T* target = p.out + (size_t)(item.row + r) * p.outStride + (size_t)head * HEAD;
      const float inverse = 1.0f / sum;
#if KV_FP8
#pragma unroll
      for (int n = 0; n < HEAD / 8; n += 2) {
        const float* even = &o[m][n][2 * h];
        const float* odd = &o[m][n + 1][2 * h];
        *reinterpret_cast<uint2*>(target + n * 8 + 4 * part) =
            make_uint2(pack2(even[0] * inverse, odd[0] * inverse), pack2(even[1] * inverse, odd[1] * inverse));
      }
#else
#pragma unroll
      for (int n = 0; n < HEAD / 8; n++)
        *reinterpret_cast<u32*>(target + n * 8 + 2 * part) = pack2(o[m][n][2 * h] * inverse, o[m][n][2 * h + 1] * inverse);
#endif
    }
}
