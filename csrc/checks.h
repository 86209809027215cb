// The last line of defence of the two ops: detprobe.bits has refused bad arguments with a sentence before.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

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

}  // namespace detprobe
