// The Python module `detprobe._emulator`: the CUDA kernels on the CPU, under a schedule seed.
//
// Tensors cross as addresses, sizes and strides, so that this module knows no torch and serves every version.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "../cuda/compare.cuh"
#include "../cuda/digest.cuh"
#include "../probes/atomic_add.cuh"
#include "../probes/atomic_add.h"
#include "kernels.h"

namespace py = pybind11;

namespace detprobe {
namespace {

using Sizes = std::vector<int64_t>;

int64_t count(const Sizes& sizes) {
  int64_t n = 1;
  for (const int64_t size : sizes) n *= size;
  return n;
}

// The result goes through guarded memory: a kernel that writes beside it is an error, not a surprise later.
std::vector<int64_t> compare(uintptr_t a, uintptr_t b, const Sizes& sizes, const Sizes& strides_a,
                             const Sizes& strides_b, const std::vector<int32_t>& format, uint64_t seed) {
  if (strides_a.size() != sizes.size() || strides_b.size() != sizes.size() || format.size() != 6) {
    throw std::invalid_argument("compare: expected as many strides as sizes, and a format of six numbers");
  }
  Layout layout;
  if (!join(sizes.data(), strides_a.data(), strides_b.data(), static_cast<int64_t>(sizes.size()), layout)) {
    throw std::invalid_argument("compare: more than 16 dimensions are left after joining");
  }
  const Format f{static_cast<Kind>(format[0]), format[1], format[2], format[3], format[4], format[5]};
  emulator::Guarded record(sizeof(Record));
  emulator::set_seed(seed);
  run_compare(reinterpret_cast<const void*>(a), reinterpret_cast<const void*>(b), layout, f, count(sizes),
              static_cast<Record*>(record.data()), nullptr);
  record.check();
  const auto* out = static_cast<const int64_t*>(record.data());
  return {out, out + 5};
}

std::pair<uint64_t, uint64_t> digest(uintptr_t data, int64_t element_bytes, const Sizes& sizes, uint64_t seed) {
  const int64_t bytes = count(sizes) * element_bytes;
  const uint64_t shape = shape_key(static_cast<uint64_t>(bytes), sizes.data(), static_cast<int64_t>(sizes.size()));
  emulator::Guarded lanes(2 * sizeof(uint64_t));
  emulator::set_seed(seed);
  run_digest(reinterpret_cast<const void*>(data), bytes, static_cast<int32_t>(element_bytes > 8 ? 8 : element_bytes),
             shape, static_cast<uint64_t*>(lanes.data()), nullptr);
  lanes.check();
  const auto* out = static_cast<const uint64_t*>(lanes.data());
  return {out[0], out[1]};
}

// sums [bins] and tickets [blocks] are written through guarded memory.
void atomic_add(uintptr_t x, int64_t n, int64_t bins, int32_t type, uintptr_t sums, uintptr_t tickets, uint64_t seed) {
  if (n < 1 || bins < 1) throw std::invalid_argument("atomic_add: expected n and bins of at least 1");
  emulator::set_seed(seed);
  probes::with_type<half_t, bfloat_t>(static_cast<probes::Type>(type), [&](auto of) {
    using T = decltype(of);
    const size_t blocks = static_cast<size_t>((n + probes::kAddBlock - 1) / probes::kAddBlock);
    const size_t bytes = static_cast<size_t>(bins) * sizeof(T);
    emulator::Guarded sum((bytes + 3) / 4 * 4), ticket(blocks * sizeof(uint32_t)), next(sizeof(uint32_t));
    probes::run_atomic_add(reinterpret_cast<const T*>(x), n, bins, static_cast<T*>(sum.data()),
                           static_cast<uint32_t*>(ticket.data()), static_cast<uint32_t*>(next.data()), nullptr);
    for (const emulator::Guarded* memory : {&sum, &ticket, &next}) memory->check();
    std::memcpy(reinterpret_cast<void*>(sums), sum.data(), bytes);
    std::memcpy(reinterpret_cast<void*>(tickets), ticket.data(), blocks * sizeof(uint32_t));
  });
}

}  // namespace
}  // namespace detprobe

PYBIND11_MODULE(_emulator, m) {
  m.doc() = "detprobe's CUDA kernels on the CPU: threads as fibers, in an order that a seed decides.";
  m.def("compare", &detprobe::compare, py::arg("a"), py::arg("b"), py::arg("sizes"), py::arg("strides_a"),
        py::arg("strides_b"), py::arg("format"), py::arg("seed"));
  m.def(
      "kernels",
      [](uint64_t seed, bool fused) { return reinterpret_cast<intptr_t>(&detprobe::emulator::kernels(seed, fused)); },
      "The address of the table of the reductions, for torch.ops.detprobe._emulate; seed and fused hold from now on.",
      py::arg("seed"), py::kw_only(), py::arg("fused") = true);
  m.def("atomic_add", &detprobe::atomic_add, py::arg("x"), py::arg("n"), py::arg("bins"), py::arg("type"),
        py::arg("sums"), py::arg("tickets"), py::arg("seed"));
  m.def("digest", &detprobe::digest, py::arg("data"), py::arg("element_bytes"), py::arg("sizes"), py::arg("seed"));
}
