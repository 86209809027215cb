// The table of the reductions and of segments on the emulator (arith/job.h), in the place of a device's.
//
// The workspace is the emulator's own: guarded, and full of a pattern, so that a kernel that writes beside it or counts
// on zeros shows.
#include "kernels.h"

#include <string>

#include "../cuda/device_kernels.h"
#include "../cuda/exact.cuh"

namespace detprobe::emulator {
namespace {

uint64_t seed = 0;
cuda::Limits limits;
int64_t wide_from = cuda::kWideFrom;  // with `fused`, a thread takes several columns wherever it can

// f(guarded workspace), and the text of what it threw.
template <class J, class F>
const char* guarded(J job, int64_t bytes, const F& f) {
  static thread_local std::string text;
  set_seed(seed);
  try {
    Guarded workspace(static_cast<size_t>(bytes));
    job.workspace = workspace.data();
    f(job);
    workspace.check();
  } catch (const std::exception& error) {
    text = error.what();
    return text.c_str();
  }
  return nullptr;
}

int64_t run_workspace(const Job& job) { return cuda::run_workspace(job, limits); }
int64_t exact_workspace(const ExactJob& job) { return exact_sum_workspace(job.type, job.g); }

const char* run(const Job& job) {
  return guarded(job, run_workspace(job), [](const Job& own) { cuda::run(own, limits); });
}
const char* scan(const ScanJob& job) {
  return guarded(job, cuda::scan_workspace(job), [](const ScanJob& own) { cuda::scan(own); });
}
const char* exact(const ExactJob& job) {
  return guarded(job, exact_workspace(job),
                 [](const ExactJob& own) { run_exact_sum(own.type, own.g, own.x, own.workspace, own.out, nullptr); });
}
const char* fold(const SegmentJob& job) {
  return guarded(job, cuda::fold_workspace(job), [](const SegmentJob& own) { cuda::fold(own, wide_from); });
}

}  // namespace

const Kernels& kernels(uint64_t schedule_seed, bool fused) {
  static const Kernels table = {"emulator",
                                run,
                                scan,
                                exact,
                                fold,
                                /*own=*/nullptr,
                                run_workspace,
                                cuda::scan_workspace,
                                exact_workspace,
                                cuda::fold_workspace};
  seed = schedule_seed;
  limits = fused ? cuda::Limits{} : cuda::Limits{0, INT64_MAX};
  wide_from = fused ? 0 : INT64_MAX;
  return table;
}

}  // namespace detprobe::emulator
