// The next token of each row of logits: the likeliest one, or a draw from the softmax at a temperature, cut by min-p, top-k and top-p.
// What each cut keeps is defined by the reference device's sampler; the random number comes with the row, keyed by (seed, sequence,
// position), so that no batching changes a draw. −2 where no token is possible. One block a row; nothing is sorted: thresholds are found by
// counting above seven of them at a time. Sums have a fixed order, so that a row always draws the same.
#include "common.cuh"

struct Row {
  int draws;
  float inverseTemperature;
  int topK;     // 0 keeps all
  float topP;   // 1 keeps all
  float reach;  // tokens farther below the likeliest one (in units of the temperature) are not drawn
  int unused;
  double key;   // [0, 1)
};

struct Parameters {
  const float* logits; // [rows, width]
  const Row* rows;
  int* tokens;         // [rows]
  int width;
};

constexpr int threads = 1024;
constexpr int warps = 32;
constexpr int cuts = 7;
constexpr int tilesMax = 64;
constexpr float fixedPoint = 1099511627776.0f; // 2^40

// Unsigned integers in the order of floats.
__device__ __forceinline__ u32 ordered(float x) {
  const u32 bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

struct Shared {
  float values[warps];
  int tokens[warps];
  int counts[warps][cuts];
  float masses[warps][cuts];
  u64 sums[tilesMax][warps];
  u64 tileSums[tilesMax];
  u64 rest;
  int tile, warp, token;
};

__device__ __forceinline__ void better(float& value, int& token, float otherValue, int otherToken) {
  if (otherValue > value || (otherValue == value && otherToken < token)) value = otherValue, token = otherToken;
}

// The likeliest token, for every thread.
__device__ float likeliest(const float* logits, int width, Shared& s, int& best) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  float value = minusInfinity;
  int token = 0x7fffffff;
  for (int i = threadIdx.x; i < width; i += threads) {
    const float logit = logits[i];
    if (logit > value) value = logit, token = i;
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1)
    better(value, token, __shfl_xor_sync(0xffffffffu, value, offset), __shfl_xor_sync(0xffffffffu, token, offset));
  if (lane == 0) s.values[warp] = value, s.tokens[warp] = token;
  __syncthreads();
  value = s.values[lane];
  token = s.tokens[lane];
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1)
    better(value, token, __shfl_xor_sync(0xffffffffu, value, offset), __shfl_xor_sync(0xffffffffu, token, offset));
  best = token;
  return value;
}

// The tokens that are still in, and their weights relative to the likeliest one's.
struct Kept {
  const float* logits;
  int width;
  float most, inverseTemperature, reach;
  u32 lowest;   // of ordered()
  int lastTied; // of tokens at `lowest`, the last id that is in

  __device__ __forceinline__ float weight(int i, u32& place) const {
    const float logit = logits[i];
    const float distance = (most - logit) * inverseTemperature;
    place = ordered(logit);
    const bool isIn = distance < reach && (place > lowest || (place == lowest && i <= lastTied));
    return isIn ? expf(-distance) : 0.0f;
  }
};

// How many tokens, and what mass, lie at each of seven places or above. Every thread gets all.
__device__ void measure(const Kept& kept, const u32 (&places)[cuts], int (&counts)[cuts], float (&masses)[cuts], Shared& s) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int k = 0; k < cuts; k++) counts[k] = 0, masses[k] = 0;
  for (int i = threadIdx.x; i < kept.width; i += threads) {
    u32 place;
    const float weight = kept.weight(i, place);
    if (weight == 0) continue;
#pragma unroll
    for (int k = 0; k < cuts; k++)
      if (place >= places[k]) counts[k]++, masses[k] += weight;
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < cuts; k++) {
    masses[k] = warpSum(masses[k]);
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) counts[k] += __shfl_xor_sync(0xffffffffu, counts[k], offset);
    if (lane == 0) s.counts[warp][k] = counts[k], s.masses[warp][k] = masses[k];
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < cuts; k++) {
    masses[k] = warpSum(s.masses[lane][k]);
    counts[k] = s.counts[lane][k];
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) counts[k] += __shfl_xor_sync(0xffffffffu, counts[k], offset);
  }
}

// The highest place at which `count` tokens (or, where that is 0, the mass `mass`) lie at or above; of what lies at that very place,
// `tied` tokens are needed.
__device__ u32 highest(const Kept& kept, int count, float mass, int& tied, Shared& s) {
  u32 low = ordered(kept.most - kept.reach / kept.inverseTemperature), high = ordered(kept.most) + 1;
  low = low > 16 ? low - 16 : 0;
  int countLow = 0x7fffffff, countHigh = 0;
  float massHigh = 0;
  while (high - low > 1 && countLow - countHigh > 1 && countLow != count) {
    u32 places[cuts];
#pragma unroll
    for (int k = 0; k < cuts; k++) places[k] = low + (u32)((u64)(high - low) * (k + 1) / (cuts + 1));
    int counts[cuts];
    float masses[cuts];
    measure(kept, places, counts, masses, s);
    u32 nextLow = low, nextHigh = high;
    int nextCountLow = countLow, nextCountHigh = countHigh;
    float nextMassHigh = massHigh;
    bool found = false;
#pragma unroll
    for (int k = cuts - 1; k >= 0; k--) {
      const bool isEnough = count > 0 ? counts[k] >= count : masses[k] >= mass;
      if (found || places[k] == low) continue;
      if (isEnough) {
        nextLow = places[k], nextCountLow = counts[k];
        found = true;
      } else if (places[k] < nextHigh) {
        nextHigh = places[k], nextCountHigh = counts[k], nextMassHigh = masses[k];
      }
    }
    low = nextLow, high = nextHigh, countLow = nextCountLow, countHigh = nextCountHigh, massHigh = nextMassHigh;
  }
  tied = 0x7fffffff;
  if (count == 0 && high - low == 1 && countLow - countHigh > 1) {
    const float bits = __uint_as_float(low & 0x80000000u ? low & 0x7fffffffu : ~low);
    const float weight = expf(-(kept.most - bits) * kept.inverseTemperature);
    tied = max(1, (int)ceilf((mass - massHigh) / weight));
  }
  return low;
}

// The first id at which the running sum of `weigh(id)` in order of ids passes the target, which `aim` makes of the whole sum.
template <typename Weigh, typename Aim> __device__ int walk(int width, Weigh weigh, Aim aim, Shared& s) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int own = (width + tilesMax * threads - 1) / (tilesMax * threads);
  const int tiles = (width + own * threads - 1) / (own * threads);
  auto ownSum = [&](int tile) {
    u64 sum = 0;
    for (int e = 0; e < own; e++) {
      const int i = (tile * threads + threadIdx.x) * own + e;
      if (i < width) sum += weigh(i);
    }
    return sum;
  };
  __syncthreads();
  for (int tile = 0; tile < tiles; tile++) {
    u64 sum = ownSum(tile);
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (lane == 0) s.sums[tile][warp] = sum;
  }
  __syncthreads();
  if (threadIdx.x < tiles) {
    u64 sum = 0;
    for (int w = 0; w < warps; w++) sum += s.sums[threadIdx.x][w];
    s.tileSums[threadIdx.x] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    u64 total = 0;
    for (int tile = 0; tile < tiles; tile++) total += s.tileSums[tile];
    u64 rest = aim(total);
    s.token = -2;
    s.tile = -1;
    if (rest < total) {
      int tile = 0, w = 0;
      while (rest >= s.tileSums[tile]) rest -= s.tileSums[tile++];
      while (rest >= s.sums[tile][w]) rest -= s.sums[tile][w++];
      s.tile = tile, s.warp = w, s.rest = rest;
    }
  }
  __syncthreads();
  if (s.tile >= 0 && warp == s.warp) {
    const u64 mine = ownSum(s.tile);
    u64 before = mine;
#pragma unroll
    for (int offset = 1; offset < 32; offset <<= 1) {
      const u64 other = __shfl_up_sync(0xffffffffu, before, offset);
      if (lane >= offset) before += other;
    }
    before -= mine;
    if (s.rest >= before && s.rest < before + mine) {
      u64 rest = s.rest - before;
      for (int e = 0; e < own; e++) {
        const int i = (s.tile * threads + threadIdx.x) * own + e;
        const u64 weight = i < width ? weigh(i) : 0;
        if (rest < weight) {
          s.token = i;
          break;
        }
        rest -= weight;
      }
    }
  }
  __syncthreads();
  return s.token;
}

extern "C" __global__ void __launch_bounds__(threads) sample(const __grid_constant__ Parameters p) {
  __shared__ Shared s;
  waitForPrevious();
  letNextStart();
  const float* logits = p.logits + (size_t)blockIdx.x * p.width;
  const Row row = p.rows[blockIdx.x];
  int best;
  const float most = likeliest(logits, p.width, s, best);
  if (!isfinite(most) || !row.draws) {
    if (threadIdx.x == 0) p.tokens[blockIdx.x] = isfinite(most) ? best : -2;
    return;
  }
  Kept kept = {logits, p.width, most, row.inverseTemperature, row.reach, 0, 0x7fffffff};
  int tied;
  if (row.topK > 0 && row.topK < p.width) kept.lowest = highest(kept, row.topK, 0, tied, s);
  if (row.topP < 1) {
    const u32 places[cuts] = {};
    int counts[cuts];
    float masses[cuts];
    measure(kept, places, counts, masses, s);
    const u32 lowest = highest(kept, 0, row.topP * masses[0], tied, s);
    if (lowest >= kept.lowest) {
      kept.lowest = lowest;
      if (tied < 0x7fffffff) {
        auto isTied = [&](int i) -> u64 { return ordered(logits[i]) == lowest; };
        const int last = walk(p.width, isTied, [&](u64 all) -> u64 { return min((u64)(tied - 1), all - 1); }, s);
        kept.lastTied = last;
      }
    }
  }
  auto weigh = [&](int i) -> u64 {
    u32 place;
    return __float2ull_rn(kept.weight(i, place) * fixedPoint);
  };
  const int token = walk(p.width, weigh, [&](u64 total) -> u64 { return (u64)(row.key * (double)total); }, s);
  if (threadIdx.x == 0) p.tokens[blockIdx.x] = token >= 0 ? token : best;
}
