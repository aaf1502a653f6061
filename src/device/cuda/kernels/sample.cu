// The next token of each row of logits: the likeliest one, or a draw from the softmax at a temperature, cut by min-p, top-k and top-p; before
// that, bans, bias and penalties of its sequence; beside it, log-probabilities of the logits as they came. What all of it means is defined by
// the reference device's sampler; the random number comes with the row, keyed by (seed, sequence, position), so that no batching changes a
// draw. −2 where no token is possible. One block a row; nothing is sorted: thresholds are found by counting above seven of them at a time.
// Sums have a fixed order, so that a row always draws the same.
#include "common.cuh"
#include "sampling-state.cuh"

struct Row {
  int draws;
  float inverseTemperature;
  int topK;         // 0 keeps all
  float topP;       // 1 keeps all
  float reach;      // tokens farther below the likeliest one (in units of the temperature) are not drawn
  int position;     // of the token to be chosen
  double key;       // [0, 1)
  SamplingState* state; // or null
  float* adjusted;  // [width], with a state: room for the row's changed logits
  float* logprobs;  // or null: the chosen token's, then `top` ids (int32), then as many values
  int top;
  int output;       // of the step's output rows; −1 is padding
};

struct Parameters {
  const float* logits; // [rows, width]
  const Row* rows;
  int* tokens;         // by output row
  int width;
};

constexpr int threads = 1024;
constexpr int warps = 32;
constexpr int cuts = 7;
constexpr int tilesMax = 64;
constexpr float fixedPoint = 1099511627776.0f; // 2^40

// Unsigned integers in the order of floats; −0 is 0.
__device__ __forceinline__ u32 ordered(float x) {
  const u32 bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The most that `Row::top` may ask for.
#ifndef TOP_MAX
#define TOP_MAX 32
#endif

struct Shared {
  float topValues[TOP_MAX];
  int topIds[TOP_MAX];
  int found;
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
  __syncthreads();
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
  static constexpr bool hasMass = true;
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
  // A place below all that are in.
  __device__ __forceinline__ u32 least() const {
    const u32 low = ordered(most - reach / inverseTemperature);
    return low > 16 ? low - 16 : 0;
  }
};

// All tokens but NaN, each of the same weight.
struct Everything {
  static constexpr bool hasMass = false;
  const float* logits;
  int width;
  float most;

  __device__ __forceinline__ float weight(int i, u32& place) const {
    const float logit = logits[i];
    place = ordered(logit);
    return isnan(logit) ? 0.0f : 1.0f;
  }
  __device__ __forceinline__ u32 least() const { return 0; }
};

// How many tokens, and what mass, lie at each of seven places or above. Every thread gets all.
template <typename Tokens>
__device__ void measure(const Tokens& kept, const u32 (&places)[cuts], int (&counts)[cuts], float (&masses)[cuts], Shared& s) {
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
template <typename Tokens> __device__ u32 highest(const Tokens& kept, int count, int& tied, Shared& s, float mass = 0) {
  u32 low = kept.least(), high = ordered(kept.most) + 1;
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
  if (high - low > 1 || countLow - countHigh <= 1) return low;
  if (count > 0) {
    tied = count - countHigh;
  } else if constexpr (Tokens::hasMass) {
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

// The last id of the first `count` tokens at the very place `at`, in order of ids.
__device__ int lastOfTied(const float* logits, int width, u32 at, int count, Shared& s) {
  auto isTied = [&](int i) -> u64 { return ordered(logits[i]) == at; };
  return walk(width, isTied, [&](u64 all) -> u64 { return min((u64)(count - 1), all - 1); }, s);
}

// The row's logits after its sequence's bans, bias and penalties, in this order.
__device__ void adjust(const float* logits, const Row& row, const SamplingState& state, int width) {
  float* own = row.adjusted;
  for (int i = threadIdx.x; i < width; i += threads) own[i] = logits[i];
  __syncthreads();
  if (row.position < state.banUntilPosition)
    for (int i = threadIdx.x; i < state.banCount; i += threads) own[state.bans[i]] = minusInfinity;
  __syncthreads();
  for (int i = threadIdx.x; i < state.biasCount; i += threads) atomicAdd(own + state.biasTokens[i], state.biasValues[i]);
  __syncthreads();
  if (state.counts == nullptr) return;
  for (int i = threadIdx.x; i < width; i += threads) {
    const int seen = state.counts[i];
    if (seen == 0) continue;
    const double logit = own[i];
    const double repeated = logit > 0 ? logit / state.repetitionPenalty : logit * state.repetitionPenalty;
    const int count = seen >> 1;
    own[i] = (float)(count > 0 ? repeated - (state.frequencyPenalty * count + state.presencePenalty) : repeated);
  }
  __syncthreads();
}

// Log-probabilities of the chosen token and of the `top` likeliest, likeliest first, of equal ones the lower id.
__device__ void report(const float* logits, const Row& row, int token, float most, int width, Shared& s) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  float sum = 0;
  for (int i = threadIdx.x; i < width; i += threads) {
    const float distance = most - logits[i];
    if (distance < 32.0f) sum += expf(-distance);
  }
  sum = warpSum(sum);
  __syncthreads();
  if (lane == 0) s.values[warp] = sum;
  if (threadIdx.x == 0) s.found = 0;
  __syncthreads();
  const float logSum = most + logf(warpSum(s.values[lane]));
  if (threadIdx.x == 0) row.logprobs[0] = token >= 0 ? logits[token] - logSum : minusInfinity;
  if (row.top == 0) return;
  int tied;
  const u32 lowest = highest(Everything{logits, width, most}, row.top, tied, s);
  const int last = tied < 0x7fffffff ? lastOfTied(logits, width, lowest, tied, s) : 0x7fffffff;
  __syncthreads();
  for (int i = threadIdx.x; i < width; i += threads) {
    const u32 place = ordered(logits[i]);
    if (isnan(logits[i]) || place < lowest || (place == lowest && i > last)) continue;
    const int at = atomicAdd(&s.found, 1);
    if (at < TOP_MAX) s.topIds[at] = i, s.topValues[at] = logits[i];
  }
  __syncthreads();
  const int found = min(s.found, row.top);
  int* ids = reinterpret_cast<int*>(row.logprobs + 1);
  float* values = row.logprobs + 1 + row.top;
  if (threadIdx.x < found) {
    const float value = s.topValues[threadIdx.x];
    const int id = s.topIds[threadIdx.x];
    int rank = 0;
    for (int other = 0; other < found; other++)
      if (s.topValues[other] > value || (s.topValues[other] == value && s.topIds[other] < id)) rank++;
    ids[rank] = id;
    values[rank] = value - logSum;
  } else if (threadIdx.x < row.top) {
    ids[threadIdx.x] = 0;
    values[threadIdx.x] = minusInfinity;
  }
}

// The next token, for every thread; −2 where none is possible.
__device__ int choose(const float* logits, const Row& row, int width, Shared& s) {
  int best;
  const float most = likeliest(logits, width, s, best);
  if (!isfinite(most)) return -2;
  if (!row.draws) return best;
  Kept kept = {logits, width, most, row.inverseTemperature, row.reach, 0, 0x7fffffff};
  int tied;
  // The k likeliest, and those equal to the last of them.
  if (row.topK > 0 && row.topK < width) kept.lowest = highest(kept, row.topK, tied, s);
  if (row.topP < 1) {
    const u32 places[cuts] = {};
    int counts[cuts];
    float masses[cuts];
    measure(kept, places, counts, masses, s);
    const u32 lowest = highest(kept, 0, tied, s, row.topP * masses[0]);
    if (lowest >= kept.lowest) {
      kept.lowest = lowest;
      if (tied < 0x7fffffff) kept.lastTied = lastOfTied(logits, width, lowest, tied, s);
    }
  }
  auto weigh = [&](int i) -> u64 {
    u32 place;
    return __float2ull_rn(kept.weight(i, place) * fixedPoint);
  };
  const int token = walk(width, weigh, [&](u64 total) -> u64 { return (u64)(row.key * (double)total); }, s);
  return token >= 0 ? token : best;
}

extern "C" __global__ void __launch_bounds__(threads) sample(const __grid_constant__ Parameters p) {
  __shared__ Shared s;
  waitForPrevious();
  letNextStart();
  const float* logits = p.logits + (size_t)blockIdx.x * p.width;
  const Row row = p.rows[blockIdx.x];
  if (row.state) adjust(logits, row, *row.state, p.width);
  const int token = choose(row.state ? row.adjusted : logits, row, p.width, s);
  if (threadIdx.x == 0) {
    if (row.output >= 0) p.tokens[row.output] = token;
    if (row.state && row.state->counts && token >= 0) row.state->counts[token] = (row.state->counts[token] | 1) + 2;
  }
  if (row.logprobs == nullptr) return;
  int best;
  const float most = likeliest(logits, p.width, s, best);
  report(logits, row, token, most, p.width, s);
}
