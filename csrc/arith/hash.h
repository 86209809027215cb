// DIGEST-1: a 128-bit, position-sensitive digest of bytes and a shape, as written in csrc/README.md.
//
// Words are mixed with their own index and summed, so that any split of the words over threads gives the same digest.
// Header-only, for host and device; no torch, no CUDA header.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define DETPROBE_HD __host__ __device__ inline
#else
#define DETPROBE_HD inline
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "DIGEST-1 reads words as little endian; this host is not"
#endif

namespace detprobe {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;

// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection of 64 bits.
DETPROBE_HD uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

struct Digest {
  uint64_t lane0 = 0;
  uint64_t lane1 = 0;
};

// Adds word `w` at index `i` to both lanes. The lanes are keyed apart, and one takes the key by xor, the other by
// addition: what would cancel in one lane does not in the other.
DETPROBE_HD void absorb(Digest& sum, uint64_t w, uint64_t i) {
  const uint64_t key = mix((i + 1) * kGolden);
  sum.lane0 += mix(w ^ key);
  sum.lane1 += mix(w + mix(key + kGolden));
}

// What the shape contributes: the byte count, the number of dimensions, each size.
inline uint64_t shape_key(uint64_t bytes, const int64_t* sizes, int64_t dims) {
  uint64_t h = mix(bytes + kGolden);
  h = mix(h + static_cast<uint64_t>(dims));
  for (int64_t d = 0; d < dims; ++d) h = mix(h ^ (static_cast<uint64_t>(sizes[d]) + kGolden));
  return h;
}

DETPROBE_HD Digest finish(Digest sum, uint64_t shape) {
  return {mix(sum.lane0 + shape), mix(sum.lane1 ^ mix(shape + kGolden))};
}

}  // namespace detprobe
