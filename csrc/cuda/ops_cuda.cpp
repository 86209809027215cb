// detprobe's ops on CUDA tensors: checks, device guard and the caller's stream; the kernels are in the .cuh files.
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../checks.h"
#include "../formats.h"
#include "launch.h"

namespace detprobe {
namespace {

void compare(const at::Tensor& left, const at::Tensor& right, at::Tensor records, int64_t row) {
  check_pair(left, right);
  check_records(records, row, kRecordWidth, left.device());
  const c10::cuda::CUDAGuard guard(left.device());
  at::Tensor a = left, b = right;
  const Layout layout = lay_out(a, b);
  int64_t* out = records.mutable_data_ptr<int64_t>() + row * kRecordWidth;
  const char* error = launch_compare(a.const_data_ptr(), b.const_data_ptr(), layout, format_of(left), left.numel(), out,
                                     c10::cuda::getCurrentCUDAStream().stream());
  TORCH_CHECK(error == nullptr, "compare: CUDA says ", error);
}

void digest(const at::Tensor& tensor, at::Tensor records, int64_t row) {
  TORCH_CHECK(tensor.layout() == at::kStrided, "a: expected a strided tensor");
  check_records(records, row, kDigestWidth, tensor.device());
  const c10::cuda::CUDAGuard guard(tensor.device());
  const at::Tensor a = row_major(tensor);
  const int64_t size = a.element_size(), bytes = a.numel() * size;
  const uint64_t shape = shape_key(static_cast<uint64_t>(bytes), tensor.sizes().data(), tensor.dim());
  int64_t* out = records.mutable_data_ptr<int64_t>() + row * kDigestWidth;
  const char* error = launch_digest(a.const_data_ptr(), bytes, static_cast<int32_t>(size > 8 ? 8 : size), shape, out,
                                    c10::cuda::getCurrentCUDAStream().stream());
  TORCH_CHECK(error == nullptr, "digest: CUDA says ", error);
}

}  // namespace
}  // namespace detprobe

TORCH_LIBRARY_IMPL(detprobe, CUDA, m) {
  m.impl("compare", detprobe::compare);
  m.impl("digest", detprobe::digest);
}
TORCH_LIBRARY_IMPL(detprobe, QuantizedCUDA, m) {
  m.impl("compare", detprobe::compare);
  m.impl("digest", detprobe::digest);
}
