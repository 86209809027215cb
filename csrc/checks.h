// The last line of defence of the two ops: detprobe.bits has refused bad arguments with a sentence before.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/int_repr.h>
#include <c10/util/Exception.h>

#include "arith/layout.h"

namespace detprobe {

constexpr int64_t kRecordWidth = 5;
constexpr int64_t kDigestWidth = 2;

inline void check_records(const at::Tensor& records, int64_t row, int64_t width, const at::Device& device) {
  TORCH_CHECK(records.scalar_type() == at::kLong && records.dim() == 2 && records.size(1) == width &&
                  records.is_contiguous() && records.device() == device,
              "records: expected a contiguous int64 [rows, ", width, "] tensor on ", device);
  TORCH_CHECK(row >= 0 && row < records.size(0), "row: expected 0 to ", records.size(0) - 1, ", got ", row);
}

inline void check_pair(const at::Tensor& a, const at::Tensor& b) {
  TORCH_CHECK(a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && a.device() == b.device(),
              "a and b: expected one dtype, shape and device");
  TORCH_CHECK(a.layout() == at::kStrided && b.layout() == at::kStrided, "a and b: expected strided tensors");
}

// The same bytes in row-major order, as a type that every device can copy (packed integers and quantised types have no
// copy kernel). No copy where the tensor is in that order already.
inline at::Tensor row_major(const at::Tensor& t) {
  if (t.is_contiguous()) return t;
  if (t.is_quantized()) return at::int_repr(t).contiguous();
  switch (t.element_size()) {
    case 1: return t.view(at::kByte).contiguous();
    case 2: return t.view(at::kShort).contiguous();
    case 4: return t.view(at::kInt).contiguous();
    case 8: return t.view(at::kLong).contiguous();
    default: return t.contiguous();
  }
}

// How two tensors of one shape lie. Those that no layout can describe are replaced by copies in row-major order.
inline Layout lay_out(at::Tensor& a, at::Tensor& b) {
  Layout layout;
  if (join(a.sizes().data(), a.strides().data(), b.strides().data(), a.dim(), layout)) return layout;
  a = row_major(a);
  b = row_major(b);
  return run_of(a.numel());
}

}  // namespace detprobe
