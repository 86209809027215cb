// detprobe::digest on the CPU: DIGEST-1 of a tensor's bytes, in logical row-major order, and of its shape.
//
// Computes:    two 64-bit lanes, as csrc/README.md writes them.
// Order:       sums modulo 2^64: every split over threads gives the same lanes.
// Types:       every strided dtype.    Level: device_to_device.    Error bound: exact.
// Domain:      any size, also 0. Bits count: +0.0 and -0.0, and two NaN of other payloads, have other digests.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <atomic>
#include <cstring>

#include "../arith/hash.h"
#include "../checks.h"

namespace detprobe {
namespace {

constexpr int64_t kWordsPerThread = 1 << 14;

void digest(const at::Tensor& tensor, at::Tensor records, int64_t row) {
  TORCH_CHECK(tensor.layout() == at::kStrided, "a: expected a strided tensor");
  check_records(records, row, kDigestWidth, tensor.device());
  const at::Tensor a = row_major(tensor);
  const int64_t bytes = a.numel() * a.element_size();
  const auto* data = static_cast<const unsigned char*>(a.const_data_ptr());
  std::atomic<uint64_t> lane0{0}, lane1{0};
  at::parallel_for(0, bytes / 8, kWordsPerThread, [&](int64_t begin, int64_t end) {
    Digest part;
    for (int64_t i = begin; i < end; ++i) {
      uint64_t word;
      std::memcpy(&word, data + i * 8, 8);
      absorb(part, word, static_cast<uint64_t>(i));
    }
    lane0 += part.lane0;
    lane1 += part.lane1;
  });
  Digest sum{lane0.load(), lane1.load()};
  if (const int64_t rest = bytes % 8) {
    uint64_t word = 0;
    std::memcpy(&word, data + bytes - rest, rest);
    absorb(sum, word, static_cast<uint64_t>(bytes / 8));
  }
  const Digest result = finish(sum, shape_key(static_cast<uint64_t>(bytes), tensor.sizes().data(), tensor.dim()));
  int64_t* out = records.mutable_data_ptr<int64_t>() + row * kDigestWidth;
  out[0] = static_cast<int64_t>(result.lane0);
  out[1] = static_cast<int64_t>(result.lane1);
}

}  // namespace
}  // namespace detprobe

TORCH_LIBRARY_IMPL(detprobe, CPU, m) { m.impl("digest", detprobe::digest); }
TORCH_LIBRARY_IMPL(detprobe, QuantizedCPU, m) { m.impl("digest", detprobe::digest); }
