// The table of kernels that CUDA and the emulator share: from the type of a job to the file that has its kernels.
#pragma once

#include "run.cuh"
#include "segments.cuh"

namespace detprobe::cuda {

DETPROBE_KERNELS(extern, float)
DETPROBE_KERNELS(extern, double)
DETPROBE_KERNELS(extern, uint64_t)
DETPROBE_SEGMENTS(extern, half_t)
DETPROBE_SEGMENTS(extern, bfloat_t)
DETPROBE_SEGMENTS(extern, float)
DETPROBE_SEGMENTS(extern, double)

// f(a number of the acc of a type).
template <class F>
auto with_acc(Type type, const F& f) {
  switch (type) {
    case Type::f16:
    case Type::bf16:
    case Type::f32: return f(float{});
    case Type::f64: return f(double{});
    default: return f(uint64_t{});
  }
}

inline void run(const Job& job, const Limits& limits) {
  with_acc(job.type, [&](auto acc) { run<decltype(acc)>(job, limits); });
}
inline int64_t run_workspace(const Job& job, const Limits& limits) {
  return with_acc(job.type, [&](auto acc) { return run_workspace<decltype(acc)>(job, limits); });
}
inline void scan(const ScanJob& job) {
  with_acc(job.type, [&](auto acc) { scan<decltype(acc)>(job); });
}
inline int64_t scan_workspace(const ScanJob& job) {
  return with_acc(job.type, [&](auto acc) { return scan_workspace<decltype(acc)>(job); });
}

}  // namespace detprobe::cuda
