// A sum as scatter_add and index_add make it on a GPU: one atomicAdd for each number, in the order of arrival.
//
// Computes: sums[b] = the sum of all x[i] with i % bins == b, from +0.0.
// Order:    none. Whoever comes first adds first, and this is what the probe shows.
// Types:    float16, bfloat16, float32, float64. The first two by the device's own instruction where it has one (from
//           7.0 and from 9.0 on), else by compare-exchange of the word around them, each addition rounded once.
// Level:    none.
// tickets[block] counts the blocks that had come before: taken by the first thread of a block just before it adds.
#pragma once

#include "../arith/fp.h"
#include "../cuda/device.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace detprobe::probes {

constexpr uint32_t kAddBlock = 256;

// `at` lies in memory that may be read and written in whole words of four bytes.
template <class T>
__device__ inline void add_by_exchange(T* at, T value) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(at);
  auto* word = reinterpret_cast<unsigned*>(address & ~static_cast<uintptr_t>(3));
  const unsigned shift = static_cast<unsigned>(address & 2) * 8;
  unsigned seen = *word;
  for (;;) {
    const T sum = narrow<T>(add(widen(T{static_cast<uint16_t>(seen >> shift)}), widen(value)));
    const unsigned wanted = (seen & ~(0xFFFFu << shift)) | static_cast<unsigned>(sum.bits) << shift;
    const unsigned found = atomicCAS(word, seen, wanted);
    if (found == seen) return;
    seen = found;
  }
}

__device__ inline void add_atomically(float* at, float value) { atomicAdd(at, value); }
__device__ inline void add_atomically(double* at, double value) { atomicAdd(at, value); }
__device__ inline void add_atomically(half_t* at, half_t value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
  atomicAdd(reinterpret_cast<__half*>(at), bits_as<__half>(value));
#else
  add_by_exchange(at, value);
#endif
}
__device__ inline void add_atomically(bfloat_t* at, bfloat_t value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  atomicAdd(reinterpret_cast<__nv_bfloat16*>(at), bits_as<__nv_bfloat16>(value));
#else
  add_by_exchange(at, value);
#endif
}

template <class T>
__global__ void atomic_add_start(T* sums, int64_t bins, uint32_t* next) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kAddBlock + threadIdx.x;
  if (i < bins) sums[i] = T{};
  if (i == 0) *next = 0;
}

template <class T>
__global__ void __launch_bounds__(kAddBlock)
    atomic_add_elements(const T* x, int64_t n, int64_t bins, T* sums, uint32_t* tickets, uint32_t* next) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kAddBlock + threadIdx.x;
  if (threadIdx.x == 0) tickets[blockIdx.x] = atomicAdd(next, 1u);
  if (i < n) add_atomically(sums + i % bins, x[i]);
}

// The host's part: grid and sequence. n and bins are positive.
template <class T>
void run_atomic_add(const T* x, int64_t n, int64_t bins, T* sums, uint32_t* tickets, uint32_t* next, Stream stream) {
  const auto blocks = [](int64_t items) { return dim3(static_cast<unsigned>((items + kAddBlock - 1) / kAddBlock)); };
  launch(blocks(bins), dim3(kAddBlock), stream, atomic_add_start<T>, sums, bins, next);
  launch(blocks(n), dim3(kAddBlock), stream, atomic_add_elements<T>, x, n, bins, sums, tickets, next);
}

}  // namespace detprobe::probes
