// DIGEST-1 as CUDA kernels, on raw pointers to contiguous bytes.
//
// Computes, Types, Level, Domain, Error bound: as csrc/cpu/digest.cpp.
// Order: sums modulo 2^64, in shared memory and by integer atomics: arrival order changes nothing.
// `lanes` is both workspace and result: set to zero, summed into, finished in place. Nothing waits for the host.
#pragma once

#include "../arith/hash.h"
#include "../arith/ulp.h"
#include "device.h"

namespace detprobe {

constexpr uint32_t kDigestBlock = 256;

// Word `i` of the byte stream, from elements of `size` bytes (1, 2, 4 or 8), which is what `data` is aligned to.
__device__ inline uint64_t word_at(const unsigned char* data, int64_t bytes, int32_t size, int64_t i) {
  uint64_t word = 0;
  for (int32_t at = 0; at < 8 && i * 8 + at < bytes; at += size) word |= load_part(data + i * 8 + at, size) << (at * 8);
  return word;
}

__global__ void digest_start(uint64_t* lanes) { lanes[0] = lanes[1] = 0; }

__global__ void __launch_bounds__(kDigestBlock)
    digest_words(const unsigned char* data, int64_t bytes, int32_t size, uint64_t* lanes) {
  __shared__ uint64_t parts[2][kDigestBlock];
  const uint32_t t = threadIdx.x;
  const int64_t words = (bytes + 7) / 8, stride = static_cast<int64_t>(gridDim.x) * kDigestBlock;
  Digest sum;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kDigestBlock + t; i < words; i += stride) {
    absorb(sum, word_at(data, bytes, size, i), static_cast<uint64_t>(i));
  }
  parts[0][t] = sum.lane0;
  parts[1][t] = sum.lane1;
  __syncthreads();
  for (uint32_t half = kDigestBlock / 2; half > 0; half >>= 1) {
    if (t < half) {
      parts[0][t] += parts[0][t + half];
      parts[1][t] += parts[1][t + half];
    }
    __syncthreads();
  }
  if (t < 2) atomicAdd(reinterpret_cast<Counter*>(lanes + t), static_cast<Counter>(parts[t][0]));
}

__global__ void digest_finish(uint64_t* lanes, uint64_t shape) {
  const Digest result = finish({lanes[0], lanes[1]}, shape);
  lanes[0] = result.lane0;
  lanes[1] = result.lane1;
}

// The host's part: grid and sequence. `size`: bytes of an element, at most 8 (a complex128 is two of 8).
inline void run_digest(const void* data, int64_t bytes, int32_t size, uint64_t shape, uint64_t* lanes, Stream stream) {
  launch(dim3(1), dim3(1), stream, digest_start, lanes);
  if (bytes > 0) {
    launch(dim3(blocks_for((bytes + 7) / 8, kDigestBlock)), dim3(kDigestBlock), stream, digest_words,
           static_cast<const unsigned char*>(data), bytes, size, lanes);
  }
  launch(dim3(1), dim3(1), stream, digest_finish, lanes, shape);
}

}  // namespace detprobe
