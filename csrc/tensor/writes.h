// What ops that write into a tensor share.
#pragma once

#include <ATen/MemoryOverlap.h>

#include <numeric>

#include "call.h"

namespace detprobe {

inline int64_t product(at::IntArrayRef sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t(1), std::multiplies<int64_t>());
}

inline bool is_float(const Tensor& x) { return at::isFloatingType(x.scalar_type()); }

// f(x, side by side), which writes; then back to where x lies.
template <class F>
void side_by_side(const Tensor& x, const F& f) {
  const Tensor out = x.contiguous();
  f(out);
  if (!out.is_same(x)) x.copy_(out);
}

// f(x as integers that hold sums of x), and back.
template <class F>
void as_integers(const Tensor& x, bool wide, const F& f) {
  const bool is_bool = x.scalar_type() == at::kBool;
  if (!is_bool && !wide) return f(x);
  const Tensor sums = x.to(at::kLong);
  f(sums);
  x.copy_(is_bool ? sums.ne(0) : sums);
}

inline void check_pair(const char* op, const Tensor& x, const Tensor& source) {
  TORCH_CHECK(x.scalar_type() == source.scalar_type(), op, ": expected one dtype, got ", x.scalar_type(), " and ",
              source.scalar_type());
  at::assert_no_internal_overlap(x);
  TORCH_CHECK(x.device() == source.device(), op, ": expected one device, got ", x.device(), " and ", source.device());
}

}  // namespace detprobe
