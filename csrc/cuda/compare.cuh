// detprobe::compare as CUDA kernels: the record of arith/ulp.h, on raw pointers.
//
// Computes, Types, Level, Domain, Error bound: as csrc/cpu/compare.cpp.
// Order: integers only. Lanes meet by shuffles, warps by integer atomics: count and NaN count add up, ULP and distance
//        take the maximum, the first index the minimum, so arrival order changes nothing.
// Nothing waits for the host.
#pragma once

#include "../arith/layout.h"
#include "../arith/ulp.h"
#include "device.h"

namespace detprobe {

constexpr uint32_t kCompareBlock = 256;

__global__ void compare_start(Record* out) { *out = Record{}; }

// Folds the records of a warp into its lane 0.
__device__ inline Record fold_warp(Record r) {
  for (uint32_t d = 16; d > 0; d >>= 1) {
    r.count += __shfl_down_sync(kAllLanes, r.count, d);
    r.nan_count += __shfl_down_sync(kAllLanes, r.nan_count, d);
    const int64_t ulp = __shfl_down_sync(kAllLanes, r.ulp, d), abs = __shfl_down_sync(kAllLanes, r.abs, d);
    const int64_t first = __shfl_down_sync(kAllLanes, r.first, d);
    r.ulp = ulp > r.ulp ? ulp : r.ulp;
    r.abs = abs > r.abs ? abs : r.abs;
    // -1 (none) is the largest unsigned number
    r.first = static_cast<uint64_t>(first) < static_cast<uint64_t>(r.first) ? first : r.first;
  }
  return r;
}

__global__ void __launch_bounds__(kCompareBlock)
    compare_elements(const unsigned char* a, const unsigned char* b, Layout layout, Format format, int64_t n,
                     Record* out) {
  Record mine;
  const int64_t size = static_cast<int64_t>(format.bytes) * format.parts;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kCompareBlock;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kCompareBlock + threadIdx.x; i < n; i += stride) {
    int64_t at_a = i, at_b = i;
    if (layout.dims > 1 || (layout.dims == 1 && (layout.a[0] != 1 || layout.b[0] != 1))) locate(layout, i, at_a, at_b);
    compare_element(a + at_a * size, b + at_b * size, format, i, mine);
  }
  mine = fold_warp(mine);
  if (threadIdx.x % 32 != 0 || mine.count == 0) return;
  atomicAdd(reinterpret_cast<Counter*>(&out->count), static_cast<Counter>(mine.count));
  atomicAdd(reinterpret_cast<Counter*>(&out->nan_count), static_cast<Counter>(mine.nan_count));
  atomicMax(reinterpret_cast<long long*>(&out->ulp), static_cast<long long>(mine.ulp));
  atomicMax(reinterpret_cast<long long*>(&out->abs), static_cast<long long>(mine.abs));
  atomicMin(reinterpret_cast<Counter*>(&out->first), static_cast<Counter>(mine.first));
}

// The host's part: grid and sequence.
inline void run_compare(const void* a, const void* b, const Layout& layout, const Format& format, int64_t n,
                        Record* out, Stream stream) {
  launch(dim3(1), dim3(1), stream, compare_start, out);
  if (n == 0) return;
  launch(dim3(blocks_for(n, kCompareBlock)), dim3(kCompareBlock), stream, compare_elements,
         static_cast<const unsigned char*>(a), static_cast<const unsigned char*>(b), layout, format, n, out);
}

}  // namespace detprobe
