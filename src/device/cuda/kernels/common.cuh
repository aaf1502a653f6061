// What every kernel file shares. ACTIVATION is the type that rows between ops are stored in: 0 float32, 1 float16, 2 bfloat16.
// Sums are float32 everywhere.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

using u32 = unsigned int;
using u64 = unsigned long long;

#ifndef ACTIVATION
#define ACTIVATION 2
#endif
#if ACTIVATION == 0
using T = float;
#elif ACTIVATION == 1
using T = __half;
#else
using T = __nv_bfloat16;
#endif

#define minusInfinity __uint_as_float(0xff800000u)

__device__ __forceinline__ float toFloat(float x) { return x; }
__device__ __forceinline__ float toFloat(__half x) { return __half2float(x); }
__device__ __forceinline__ float toFloat(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename To> __device__ __forceinline__ To fromFloat(float x);
template <> __device__ __forceinline__ float fromFloat<float>(float x) { return x; }
template <> __device__ __forceinline__ __half fromFloat<__half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ __nv_bfloat16 fromFloat<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

// Two neighbours as one 32-bit register, the first in the low half.
__device__ __forceinline__ u32 pack2(float low, float high) {
#if ACTIVATION == 1
  __half2 pair = __floats2half2_rn(low, high);
#else
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
#endif
  return *reinterpret_cast<u32*>(&pair);
}

__device__ __forceinline__ float2 unpack2(u32 word) {
#if ACTIVATION == 1
  return __half22float2(*reinterpret_cast<__half2*>(&word));
#else
  float2 pair;
  pair.x = __uint_as_float(word << 16);
  pair.y = __uint_as_float(word & 0xffff0000u);
  return pair;
#endif
}

// A vector of 16 bytes of T.
constexpr int lanesOf16 = 16 / sizeof(T);
struct alignas(16) Vector {
  T values[lanesOf16];
};

// As many float32 as a vector has elements; 16-byte aligned.
__device__ __forceinline__ void loadFloats(float (&out)[lanesOf16], const float* source) {
#pragma unroll
  for (int e = 0; e < lanesOf16; e += 4) {
    const float4 four = *reinterpret_cast<const float4*>(source + e);
    out[e] = four.x, out[e + 1] = four.y, out[e + 2] = four.z, out[e + 3] = four.w;
  }
}

__device__ __forceinline__ float warpSum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

__device__ __forceinline__ float warpMax(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

// 2^x by the special function unit alone: 2 ulp, denormals are 0; −∞ gives 0.
__device__ __forceinline__ float exp2Fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Sum over a block of up to 1024 threads; every thread gets it. `scratch` holds 32 floats.
__device__ __forceinline__ float blockSum(float x, float* scratch) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
  x = warpSum(x);
  __syncthreads();
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warpSum(lane < warps ? scratch[lane] : 0.0f);
}

// Programmatic dependent launch: a kernel may start before the one ahead of it ends, and waits here for what that one wrote.
__device__ __forceinline__ void waitForPrevious() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void letNextStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// c += a · b on the tensor cores: a is 16×16 (row-major fragments), b 16×8, c 16×8 float32.
__device__ __forceinline__ void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if ACTIVATION == 1
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Two neighbours as float16, whatever the activations are; beyond its range the largest number.
__device__ __forceinline__ u32 packHalf2(float low, float high) {
  constexpr float largest = 65504.0f;
  const __half2 pair = __floats2half2_rn(fminf(fmaxf(low, -largest), largest), fminf(fmaxf(high, -largest), largest));
  return *reinterpret_cast<const u32*>(&pair);
}

// Four e4m3 numbers as two registers of float16, which holds each of them exactly.
__device__ __forceinline__ void unpackE4m3(u32 word, u32& first, u32& second) {
  const __half2_raw low = __nv_cvt_fp8x2_to_halfraw2((__nv_fp8x2_storage_t)(word & 0xffffu), __NV_E4M3);
  const __half2_raw high = __nv_cvt_fp8x2_to_halfraw2((__nv_fp8x2_storage_t)(word >> 16), __NV_E4M3);
  first = (u32)low.x | ((u32)low.y << 16);
  second = (u32)high.x | ((u32)high.y << 16);
}

// Two neighbours as e4m3, the first in the low byte; beyond ±448 the largest number.
__device__ __forceinline__ unsigned short packE4m3(float low, float high) {
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
}

// As mma, of float16 whatever the activations are.
__device__ __forceinline__ void mmaHalf(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 sharedAddress(const void* pointer) {
  return static_cast<u32>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void loadMatrix4(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

__device__ __forceinline__ void loadMatrix4Transposed(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// The transpose of an 8×8 matrix of 16-bit elements held as a fragment.
__device__ __forceinline__ u32 transpose8x8(u32 x) {
  u32 y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// Asynchronous copy of 16 bytes to shared memory; zeros where `valid` is false.
__device__ __forceinline__ void copy16(u32 shared, const void* global, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes));
}

__device__ __forceinline__ void commitCopies() { asm volatile("cp.async.commit_group;"); }

template <int pending> __device__ __forceinline__ void waitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending));
}

// A weight is read once a step: it must not push what is read again out of the cache.
__device__ __forceinline__ uint4 loadStreaming(const void* pointer) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(pointer));
  return v;
}
