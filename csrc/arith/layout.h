// Two tensors of one shape and their strides, with dimensions joined where both allow it.
#pragma once

#include <cstdint>

#include "hash.h"

namespace detprobe {

constexpr int32_t kMaxDims = 16;  // after joining

// Strides in elements. dims == 0 is a single element.
struct Layout {
  int32_t dims = 0;
  int64_t sizes[kMaxDims] = {};
  int64_t a[kMaxDims] = {};
  int64_t b[kMaxDims] = {};
};

// Joins neighbouring dimensions that are one run in both tensors, and drops those of size 1; the logical order stays.
// Returns false where more than kMaxDims are left.
inline bool join(const int64_t* sizes, const int64_t* a, const int64_t* b, int64_t dims, Layout& out) {
  out.dims = 0;
  for (int64_t d = 0; d < dims; ++d) {
    if (sizes[d] == 1) continue;
    const int32_t last = out.dims - 1;
    if (last >= 0 && out.a[last] == a[d] * sizes[d] && out.b[last] == b[d] * sizes[d]) {
      out.sizes[last] *= sizes[d];
      out.a[last] = a[d];
      out.b[last] = b[d];
      continue;
    }
    if (out.dims == kMaxDims) return false;
    out.sizes[out.dims] = sizes[d];
    out.a[out.dims] = a[d];
    out.b[out.dims] = b[d];
    ++out.dims;
  }
  return true;
}

// A single run of `n` elements in both.
inline Layout run_of(int64_t n) {
  Layout layout;
  layout.dims = 1;
  layout.sizes[0] = n;
  layout.a[0] = layout.b[0] = 1;
  return layout;
}

// Where logical index `i` lies in both tensors, in elements.
DETPROBE_HD void locate(const Layout& layout, int64_t i, int64_t& a, int64_t& b) {
  a = 0;
  b = 0;
  for (int32_t d = layout.dims - 1; d > 0; --d) {
    const int64_t index = i % layout.sizes[d];
    i /= layout.sizes[d];
    a += index * layout.a[d];
    b += index * layout.b[d];
  }
  if (layout.dims > 0) {
    a += i * layout.a[0];
    b += i * layout.b[0];
  }
}

}  // namespace detprobe
