// A reduction as sizes and strides: which elements are a row, and where the rows are. Pure integers, for every device.
#pragma once

#include <cstdint>

#include "layout.h"

namespace detprobe {

// Rows of one or two tensors of one shape. Strides in elements. Dimensions of size 1 are gone, and neighbours that are
// one run in both tensors are joined; the order of the elements of a row, and of the rows, stays the logical one.
struct Geometry {
  Layout kept;     // the rows
  Layout reduced;  // the elements of a row
  int64_t rows = 1;
  int64_t n = 1;  // elements of a row

  // Elements of a row lie side by side, in both tensors.
  DETPROBE_HD bool inner() const {
    return reduced.dims == 0 || (reduced.dims == 1 && reduced.a[0] == 1 && reduced.b[0] == 1);
  }
  // Rows lie side by side, four or more, and their elements do not: work goes down the columns of memory.
  DETPROBE_HD bool down() const {
    const int32_t last = kept.dims - 1;
    return !inner() && last >= 0 && kept.sizes[last] >= 4 && kept.a[last] == 1 && kept.b[last] == 1;
  }
};

// `is_reduced[d]` for each of `dims` dimensions. Returns false where more than kMaxDims are left of either kind.
inline bool split(const int64_t* sizes, const int64_t* a, const int64_t* b, const bool* is_reduced, int64_t dims,
                  Geometry& out) {
  out = Geometry();
  int64_t size[2][64], stride_a[2][64], stride_b[2][64], count[2] = {0, 0};
  if (dims > 64) return false;
  for (int64_t d = 0; d < dims; ++d) {
    const int side = is_reduced[d];
    const int64_t at = count[side]++;
    size[side][at] = sizes[d];
    stride_a[side][at] = a[d];
    stride_b[side][at] = b[d];
    (side ? out.n : out.rows) *= sizes[d];
  }
  return join(size[0], stride_a[0], stride_b[0], count[0], out.kept) &&
         join(size[1], stride_a[1], stride_b[1], count[1], out.reduced);
}

// Steps through a layout in logical order; cheaper than `locate` for every element.
class Walk {
 public:
  Walk(const Layout& layout, int64_t start) : layout_(layout) {
    for (int32_t d = layout.dims - 1; d >= 0; --d) {
      at_[d] = d > 0 ? start % layout.sizes[d] : start;
      if (d > 0) start /= layout.sizes[d];
      a += at_[d] * layout.a[d];
      b += at_[d] * layout.b[d];
    }
  }
  // Elements that follow in the innermost dimension, this one included.
  int64_t left() const { return layout_.dims ? layout_.sizes[layout_.dims - 1] - at_[layout_.dims - 1] : 1; }
  // Goes on by `count` elements, at most left().
  void go(int64_t count) {
    int32_t d = layout_.dims - 1;
    if (d < 0) return;
    at_[d] += count;
    a += count * layout_.a[d];
    b += count * layout_.b[d];
    for (; d > 0 && at_[d] == layout_.sizes[d]; --d) {
      at_[d] = 0;
      ++at_[d - 1];
      a += layout_.a[d - 1] - layout_.sizes[d] * layout_.a[d];
      b += layout_.b[d - 1] - layout_.sizes[d] * layout_.b[d];
    }
  }
  const Layout& layout() const { return layout_; }

  int64_t a = 0, b = 0;  // where the element lies

 private:
  const Layout& layout_;
  int64_t at_[kMaxDims] = {};
};

}  // namespace detprobe
