// detprobe::compare on the CPU: are two tensors the same bits, and if not, how do they differ?
//
// Computes:    the five counters of arith/ulp.h's Record, for a and b of one type and shape, any strides.
// Order:       integers only (count, max, min): every order gives the same row.
// Types:       every strided dtype; packed and quantised ones by bits alone.
// Level:       device_to_device.
// Domain:      any size, also 0; NaN, infinities and signed zeros are compared as bits.
// Error bound: exact; |a - b| is one rounded f64 subtraction (64-bit integers beyond 2^53 are rounded first).
//
// The usual answer is "equal", so that is asked first, of whole memory, by all threads.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <atomic>
#include <cstring>

#include "../checks.h"
#include "../formats.h"

namespace detprobe {
namespace {

constexpr int64_t kParallelBytes = 1 << 20;  // below this a second thread's wake-up costs more than it saves

const unsigned char* bytes_of(const at::Tensor& t) { return static_cast<const unsigned char*>(t.const_data_ptr()); }

bool same_memory(const unsigned char* a, const unsigned char* b, int64_t bytes) {
  if (bytes <= kParallelBytes || at::get_num_threads() == 1) return std::memcmp(a, b, bytes) == 0;
  std::atomic<bool> same{true};
  at::parallel_for(0, bytes, kParallelBytes / 4, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end && same.load(std::memory_order_relaxed); at += kParallelBytes) {
      if (std::memcmp(a + at, b + at, std::min(kParallelBytes, end - at)) != 0) same.store(false);
    }
  });
  return same.load();
}

// Elements [begin, end) of the logical order. The innermost dimension is walked by strides, the others by `locate`.
Record walk(const unsigned char* a, const unsigned char* b, const Layout& layout, const Format& f, int64_t begin,
            int64_t end) {
  Record record;
  const int64_t size = static_cast<int64_t>(f.bytes) * f.parts;
  const int32_t inner = layout.dims - 1;
  const int64_t run = inner < 0 ? 1 : layout.sizes[inner];
  const int64_t step_a = inner < 0 ? 0 : layout.a[inner] * size, step_b = inner < 0 ? 0 : layout.b[inner] * size;
  for (int64_t i = begin; i < end;) {
    int64_t at_a, at_b;
    locate(layout, i, at_a, at_b);
    const unsigned char *x = a + at_a * size, *y = b + at_b * size;
    const int64_t stop = std::min(end, i - i % run + run);
    for (; i < stop; ++i, x += step_a, y += step_b) {
      if (std::memcmp(x, y, size) != 0) compare_element(x, y, f, i, record);
    }
  }
  return record;
}

void compare(const at::Tensor& left, const at::Tensor& right, at::Tensor records, int64_t row) {
  check_pair(left, right);
  check_records(records, row, kRecordWidth, left.device());
  Record* out = reinterpret_cast<Record*>(records.mutable_data_ptr<int64_t>()) + row;
  *out = Record{};
  const int64_t n = left.numel();
  if (n == 0) return;
  const bool one_order = left.strides() == right.strides() && left.is_non_overlapping_and_dense();
  if (one_order && same_memory(bytes_of(left), bytes_of(right), n * static_cast<int64_t>(left.element_size()))) return;
  at::Tensor a = left, b = right;
  const Layout layout = lay_out(a, b);
  *out = walk(bytes_of(a), bytes_of(b), layout, format_of(left), 0, n);
}

}  // namespace
}  // namespace detprobe

TORCH_LIBRARY_IMPL(detprobe, CPU, m) { m.impl("compare", detprobe::compare); }
TORCH_LIBRARY_IMPL(detprobe, QuantizedCPU, m) { m.impl("compare", detprobe::compare); }
