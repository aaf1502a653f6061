// Attention of one query row a sequence over its paged KV: every query head that shares a key head is answered from one read of the
// keys and values (GQA), and long sequences are split along KV over several blocks. Bounded by memory bandwidth.
//
// Each warp walks tiles of 16 positions on its own, with its own ring of asynchronous copies: no block-wide barrier in the loop. Scores
// are computed transposed, S' = K · Q' (16 positions × 8 heads) and O' = V' · P' (head dimension × 8 heads), so that 8 heads are the
// narrow side of the tensor cores' tile.
#include "cached.cuh"

#ifndef HEAD
#define HEAD 128
#endif
#ifndef WARPS
#define WARPS 4
#endif
// Tiles (keys or values of 16 positions) of a warp's ring.
#ifndef SLOTS
#define SLOTS 6
#endif

// Blocks that a multiprocessor is to hold at once; 0 leaves the registers to the compiler.
#ifndef MIN_BLOCKS
#define MIN_BLOCKS 0
#endif

// Positions of a KV block.
#ifndef BLOCK
#define BLOCK 32
#endif

// With many sequences the grid is as large as the GPU holds at once, and every block takes an equal run of all sequences' tiles: no last
// wave of blocks that leaves most of the GPU idle. (Windows do not go with it.)
#ifndef BALANCED
#define BALANCED 0
#endif

constexpr int tile = 16;
constexpr int columns = 8;
constexpr int chunkElements = 16 / sizeof(Cached);
constexpr int chunks = HEAD / chunkElements; // 16-byte pieces of a row
constexpr int steps = HEAD / 16;
constexpr int tileBytes = tile * HEAD * sizeof(Cached);

// Where a 16-byte piece of a tile lies, so that eight rows of one column are in different banks.
__device__ __forceinline__ u32 swizzled(int r, int column) {
  return (r * chunks + (column ^ (chunks == 4 ? (r >> 1) & 3 : r & 7))) * 16;
}

// One sequence of the step: which row asks, how long its KV is, where its block table starts, and how many tiles the items before it
// have. A length of 0 is padding.
struct Item {
  int row, kvLength, blockStart, tilesBefore;
};

struct Parameters {
  const T* q;             // rows of heads · HEAD, qStride apart
  T* out;                 // rows of heads · HEAD, outStride apart
  const Cached* kv;       // this layer: [block][keys, values][kvHeads][BLOCK][HEAD]
  const Item* items;
  const int* blocks;
  float* partial;         // [item][head][split][HEAD + 2]; BALANCED: [block][2][8][HEAD + 2]
  u32* arrivals;          // [item][kvHead group] (BALANCED: [block]), zero between launches
  int qStride, outStride;
  int heads, kvHeads, window;
  int splitPositionsMin, splitsMax, itemCount;
  float scale, softcap;   // softcap 0 is none
};

extern "C" __global__ void __launch_bounds__(WARPS * 32, MIN_BLOCKS) attentionDecode(const __grid_constant__ Parameters p) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ u32 arrived;
  // Everything up to the wait was written by earlier steps or by the step's upload: the table, and all keys and values but the newest.
  letNextStart();
  const int group = p.heads / p.kvHeads;
  const int headTiles = (group + columns - 1) / columns;
#if BALANCED
  const int groups = p.kvHeads * headTiles;
  __shared__ int found;
  const Item last = p.items[p.itemCount - 1];
  const int all = (last.tilesBefore + (last.kvLength + tile - 1) / tile) * groups;
  const int share = max(4 * WARPS, (all + (int)gridDim.x - 1) / (int)gridDim.x);
  int at = blockIdx.x * share;
  const int stop = min(all, at + share);
  if (at >= stop) {
    waitForPrevious();
    return;
  }
  for (int i = threadIdx.x; i < p.itemCount; i += WARPS * 32) {
    const Item item = p.items[i];
    const int from = item.tilesBefore * groups;
    if (from <= at && at < from + (item.kvLength + tile - 1) / tile * groups) found = i;
  }
  __syncthreads();
  int itemIndex = found;
  bool waited = false;
  while (at < stop) {
    const Item item = p.items[itemIndex];
    const int end = item.kvLength, first = 0, begin = 0;
    const int tiles = (end + tile - 1) / tile;
    const int inItem = at - item.tilesBefore * groups;
    const int unit = inItem / tiles;
    const int unitStart = at - inItem % tiles, unitEnd = unitStart + tiles;
    const int tileFirst = at - unitStart, tileLast = min(tiles, stop - unitStart);
    const int blockFirst = unitStart / share;
    const int splits = (unitEnd - 1) / share - blockFirst + 1;
    const int split = blockIdx.x - blockFirst;
    at = unitStart + tileLast;
    if (unit == groups - 1 && tileLast == tiles) itemIndex++;
    auto slotOf = [&](int k) { return p.partial + (size_t)((blockFirst + k) * 2 + (k == 0)) * columns * (HEAD + 2); };
    constexpr int headSlots = 1;
    u32* counter = p.arrivals + blockFirst;
#else
  const Item item = p.items[blockIdx.y];
  const int end = item.kvLength;
  const int first = p.window > 0 ? max(0, end - p.window) : 0;
  const int begin = first / tile * tile;
  // A split takes at least splitPositionsMin positions, in whole tiles; the same count for every block of the item.
  const int length = end - begin;
  const int splits = min(p.splitsMax, max(1, (length + p.splitPositionsMin - 1) / p.splitPositionsMin));
  const int split = blockIdx.z;
  if (end == 0 || split >= splits) return;
  const int tiles = (length + tile - 1) / tile;
  const int tileFirst = (int)((long long)tiles * split / splits);
  const int tileLast = (int)((long long)tiles * (split + 1) / splits);
  const int unit = blockIdx.x;
  bool waited = false;
  auto slotOf = [&](int k) {
    return p.partial + ((size_t)(blockIdx.y * p.heads + (unit / headTiles) * group + unit % headTiles * columns) * p.splitsMax + k) * (HEAD + 2);
  };
  const int headSlots = p.splitsMax;
  u32* counter = p.arrivals + blockIdx.y * gridDim.x + blockIdx.x;
  {
#endif
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int row = lane >> 2, part = lane & 3;
  const int kvHead = unit / headTiles;
  const int headFirst = kvHead * group + unit % headTiles * columns;
  const int headCount = min(columns, (kvHead + 1) * group - headFirst);

  const u32 ringAddress = sharedAddress(memory) + warp * SLOTS * tileBytes;
  const size_t headElements = (size_t)BLOCK * HEAD;
  const size_t blockElements = 2 * headElements * p.kvHeads;
  const Cached* keys = p.kv + kvHead * headElements;
  const size_t valuesAfter = headElements * p.kvHeads;

  // Tiles come in the order keys, values, keys, …: tile 2 · turn and the one behind it.
  int ids = 0;
  auto fetch = [&](int turn, bool isValues, u32 target) {
    const int at = tileFirst + warp + turn * WARPS;
    if ((turn & 31) == 0 && !isValues) {
      const int mine = at + lane * WARPS;
      ids = mine < tileLast ? p.blocks[item.blockStart + (begin + mine * tile) / BLOCK] : 0;
    }
    const int block = __shfl_sync(0xffffffffu, ids, turn & 31);
    if (at < tileLast) {
      const int position = begin + at * tile;
      const Cached* source = keys + block * blockElements + (size_t)(position % BLOCK) * HEAD + (isValues ? valuesAfter : 0);
#pragma unroll
      for (int k = 0; k < tile * chunks / 32; k++) {
        const int c = lane + 32 * k, r = c / chunks, column = c % chunks;
        copy16(target + swizzled(r, column), source + c * chunkElements, position + r < end);
      }
    }
    commitCopies();
  };
  // Whether this warp's first turns hold the position that the kernel before this one writes.
  const bool isNewest = tileFirst + warp + (SLOTS - 2) / 2 * WARPS >= tiles - 1;
  if (isNewest && !waited) waitForPrevious();
#pragma unroll
  for (int n = 0; n < SLOTS - 1; n++) fetch(n / 2, n & 1, ringAddress + n * tileBytes);
  if (!isNewest && !waited) waitForPrevious();
  waited = true;

  u32 q[steps][2];
  {
    const T* source = p.q + (size_t)item.row * p.qStride + (size_t)(headFirst + row) * HEAD + part * 2;
#pragma unroll
    for (int s = 0; s < steps; s++) {
      q[s][0] = row < headCount ? *reinterpret_cast<const u32*>(source + s * 16) : 0;
      q[s][1] = row < headCount ? *reinterpret_cast<const u32*>(source + s * 16 + 8) : 0;
#if KV_FP8 && ACTIVATION == 2
#pragma unroll
      for (int k = 0; k < 2; k++) {
        const float2 pair = unpack2(q[s][k]);
        q[s][k] = packHalf2(pair.x, pair.y);
      }
#endif
    }
  }

  constexpr float log2e = 1.4426950408889634f;
  float most[2] = {minusInfinity, minusInfinity}, total[2] = {0, 0};
  float o[steps][4] = {};
  const int turns = (tileLast - tileFirst - warp + WARPS - 1) / WARPS;
  u32 current = ringAddress, before = ringAddress + (SLOTS - 1) * tileBytes;
  // Waits for the next tile, and fetches into the place of the one before it, which all lanes have done with.
  auto advance = [&](int n) -> u32 {
    waitForCopies<SLOTS - 2>();
    __syncwarp();
    fetch((n + SLOTS - 1) >> 1, (n + SLOTS - 1) & 1, before);
    before = current;
    current = current == ringAddress + (SLOTS - 1) * tileBytes ? ringAddress : current + tileBytes;
    return before;
  };
  for (int turn = 0; turn < turns; turn++) {
    const u32 keyTile = advance(2 * turn);
    float s[4] = {};
#if KV_FP8
    // A register of a fragment of bytes is two of float16 (keyByte): 16 bytes are one step.
#pragma unroll
    for (int k = 0; k < steps; k += 2) {
      u32 words[4];
      loadMatrix4(words, keyTile + swizzled(lane & 15, k + (lane >> 4)));
#pragma unroll
      for (int half = 0; half < 2; half++) {
        u32 a[4];
        unpackE4m3(words[2 * half], a[0], a[2]);
        unpackE4m3(words[2 * half + 1], a[1], a[3]);
        mmaHalf(s, a, q[k + half][0], q[k + half][1]);
      }
    }
#else
#pragma unroll
    for (int k = 0; k < steps; k++) {
      u32 a[4];
      loadMatrix4(a, keyTile + swizzled(lane & 15, 2 * k + (lane >> 4)));
      mma(s, a, q[k][0], q[k][1]);
    }
#endif
    // Element e: position `row + 8 · (e / 2)` of the tile, head `2 · part + e % 2`.
    const int position = begin + (tileFirst + warp + turn * WARPS) * tile + row;
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int at = position + 8 * (e >> 1);
      float score = s[e] * p.scale;
      if (p.softcap > 0) score = p.softcap * tanhf(score / p.softcap);
      s[e] = at < end && at >= first ? score * log2e : minusInfinity;
    }
    float correction[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float largest = fmaxf(s[h], s[h + 2]);
#pragma unroll
      for (int offset = 4; offset < 32; offset <<= 1) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
      const float now = fmaxf(most[h], largest);
      const float base = now == minusInfinity ? 0.0f : now;
      correction[h] = exp2Fast(most[h] - base);
      most[h] = now;
      s[h] = exp2Fast(s[h] - base);
      s[h + 2] = exp2Fast(s[h + 2] - base);
      total[h] = total[h] * correction[h] + s[h] + s[h + 2];
    }
    if (__any_sync(0xffffffffu, correction[0] != 1.0f || correction[1] != 1.0f)) {
#pragma unroll
      for (int m = 0; m < steps; m++) {
        o[m][0] *= correction[0];
        o[m][1] *= correction[1];
        o[m][2] *= correction[0];
        o[m][3] *= correction[1];
      }
    }
    const u32 p0 = transpose8x8(packWeights(s[0], s[1]));
    const u32 p1 = transpose8x8(packWeights(s[2], s[3]));
    const u32 valueTile = advance(2 * turn + 1);
#if KV_FP8
    // Bytes are transposed in pairs: a register holds two elements of two positions. Even elements are a step's upper rows, odd ones its lower.
#pragma unroll
    for (int m = 0; m < steps; m += 2) {
      u32 words[4];
      loadMatrix4Transposed(words, valueTile + swizzled(lane & 15, m + (lane >> 4)));
#pragma unroll
      for (int half = 0; half < 2; half++) {
        u32 a[4];
        unpackE4m3(__byte_perm(words[2 * half], 0, 0x3120), a[0], a[1]);
        unpackE4m3(__byte_perm(words[2 * half + 1], 0, 0x3120), a[2], a[3]);
        mmaHalf(o[m + half], a, p0, p1);
      }
    }
#else
#pragma unroll
    for (int m = 0; m < steps; m++) {
      u32 a[4];
      loadMatrix4Transposed(a, valueTile + swizzled((lane & 7) + 8 * (lane >> 4), 2 * m + ((lane >> 3) & 1)));
      mma(o[m], a, p0, p1);
    }
#endif
  }
  waitForCopies<0>();
#pragma unroll
  for (int h = 0; h < 2; h++)
#pragma unroll
    for (int offset = 4; offset < 32; offset <<= 1) total[h] += __shfl_xor_sync(0xffffffffu, total[h], offset);

  // The warps' parts meet in shared memory: [warp][head][HEAD], then each warp's maxima and sums.
  __syncthreads();
  float* parts = reinterpret_cast<float*>(memory);
  float* mosts = parts + WARPS * columns * HEAD;
  float* totals = mosts + WARPS * columns;
#pragma unroll
  for (int m = 0; m < steps; m++)
#pragma unroll
    for (int e = 0; e < 4; e++)
      parts[(warp * columns + 2 * part + (e & 1)) * HEAD + m * 16 + (KV_FP8 ? 2 * row + (e >> 1) : row + 8 * (e >> 1))] = o[m][e];
  if (row == 0) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      mosts[warp * columns + 2 * part + h] = most[h];
      totals[warp * columns + 2 * part + h] = total[h];
    }
  }
  __syncthreads();
  for (int e = threadIdx.x; e < headCount * HEAD; e += WARPS * 32) {
    const int h = e / HEAD, d = e % HEAD;
    float largest = minusInfinity;
#pragma unroll
    for (int w = 0; w < WARPS; w++) largest = fmaxf(largest, mosts[w * columns + h]);
    float sum = 0, value = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      const float weight = exp2Fast(mosts[w * columns + h] - largest);
      sum += weight * totals[w * columns + h];
      value += weight * parts[(w * columns + h) * HEAD + d];
    }
    if (splits == 1) {
      p.out[(size_t)item.row * p.outStride + (size_t)(headFirst + h) * HEAD + d] = fromFloat<T>(value / sum);
    } else {
      float* slot = slotOf(split) + (size_t)h * headSlots * (HEAD + 2);
      slot[d] = value;
      if (d == 0) {
        slot[HEAD] = largest;
        slot[HEAD + 1] = sum;
      }
    }
  }
  // The last block of a sequence's heads to arrive joins the splits.
  if (splits > 1) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      arrived = atomicAdd(counter, 1);
      if (arrived == splits - 1) *counter = 0;
    }
    __syncthreads();
    if (arrived == splits - 1) {
      __threadfence();
      for (int h = 0; h < headCount; h++) {
        const size_t offset = (size_t)h * headSlots * (HEAD + 2);
        float largest = minusInfinity;
        for (int k = 0; k < splits; k++) largest = fmaxf(largest, __ldcg(slotOf(k) + offset + HEAD));
        for (int d = threadIdx.x; d < HEAD; d += WARPS * 32) {
          float sum = 0, value = 0;
#pragma unroll 4
          for (int k = 0; k < splits; k++) {
            const float* slot = slotOf(k) + offset;
            const float weight = exp2Fast(__ldcg(slot + HEAD) - largest);
            sum += weight * __ldcg(slot + HEAD + 1);
            value += weight * __ldcg(slot + d);
          }
          p.out[(size_t)item.row * p.outStride + (size_t)(headFirst + h) * HEAD + d] = fromFloat<T>(value / sum);
        }
      }
    }
  }
  // The next sequence's copies overwrite what was read here.
  __syncthreads();
  }
}
