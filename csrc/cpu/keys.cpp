// Checks and sorts indices (keys.h).
#include "keys.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <vector>

namespace detprobe {
namespace {

constexpr int64_t kGrain = 65536;

#if defined(__GNUC__) && !defined(__clang__)
#define DETPROBE_VECTORIZED __attribute__((optimize("O3")))
#else
#define DETPROBE_VECTORIZED
#endif

// Whether all are from 0 to limit - 1, once `wrap` is added to those below 0: the sign of v, or of limit - 1 - v, tells
// of one that is not. And their low bits, where somebody wants them.
template <bool Kept, class Index>
DETPROBE_VECTORIZED bool narrowed(const Index* index, int64_t n, uint64_t limit, uint64_t wrap, uint32_t* keys) {
  uint64_t signs = limit - 1;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t given = index[i];
    const uint64_t v = static_cast<uint64_t>(given) + (static_cast<uint64_t>(given >> 63) & wrap);
    signs |= v | (limit - 1 - v);
    if (Kept) keys[i] = static_cast<uint32_t>(v);
  }
  return n == 0 || static_cast<int64_t>(signs) >= 0;
}

}  // namespace

template <class Index>
int64_t keys_of(const Index* index, int64_t n, int64_t size, bool negative, int64_t none, uint32_t* keys) {
  std::atomic<int64_t> first{n};
  const uint64_t limit = static_cast<uint64_t>(size);
  at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    bool all_fit = true;
    if (none < 0) {
      const uint64_t wrap = negative ? limit : 0;
      all_fit = keys ? narrowed<true>(index + begin, end - begin, limit, wrap, keys + begin)
                     : narrowed<false>(index + begin, end - begin, limit, wrap, keys);
    } else {
      for (int64_t i = begin; i < end; ++i) {
        int64_t at = index[i];
        if (negative && at < 0) at += size;
        all_fit &= static_cast<uint64_t>(at) < limit || at == none;
        if (keys) keys[i] = static_cast<uint32_t>(at == none ? size : at);
      }
    }
    if (all_fit) return;
    for (int64_t i = begin; i < end; ++i) {
      int64_t at = index[i];
      if (negative && at < 0) at += size;
      if (static_cast<uint64_t>(at) < limit || (none >= 0 && at == none)) continue;
      for (int64_t now = first.load(); i < now && !first.compare_exchange_weak(now, i);) {
      }
      return;
    }
  });
  return first.load() < n ? first.load() : -1;
}

template int64_t keys_of(const int32_t*, int64_t, int64_t, bool, int64_t, uint32_t*);
template int64_t keys_of(const int64_t*, int64_t, int64_t, bool, int64_t, uint32_t*);

void sort_keys(const uint32_t* keys, int64_t n, int64_t rows, int64_t* order, int64_t* offsets) {
  // Each part of the records counts for itself; a part's records of one row go behind those of the parts before it.
  const int64_t room = rows + 1;
  const int64_t parts =
      n < kGrain || at::in_parallel_region() || room > n ? 1 : std::min<int64_t>(at::get_num_threads(), 16);
  std::vector<int64_t> places(static_cast<size_t>(parts * room), 0);
  const auto part = [&](int64_t k) { return n * k / parts; };
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      int64_t* mine = places.data() + k * room;
      for (int64_t i = part(k); i < part(k + 1); ++i) ++mine[std::min<int64_t>(keys[i], rows)];
    }
  });
  int64_t total = 0;
  for (int64_t row = 0; row < room; ++row) {
    offsets[row] = total;
    for (int64_t k = 0; k < parts; ++k) {
      const int64_t count = places[k * room + row];
      places[k * room + row] = total;
      total += count;
    }
  }
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      int64_t* mine = places.data() + k * room;
      for (int64_t i = part(k); i < part(k + 1); ++i) order[mine[std::min<int64_t>(keys[i], rows)]++] = i;
    }
  });
}

}  // namespace detprobe
