// The table of the reductions and of segments on CUDA (arith/job.h).
#include "device_kernels.h"
#include "exact.cuh"

namespace detprobe {
namespace {

const char* status() {
  const cudaError_t error = cudaGetLastError();  // of the launches; never waits
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

const char* run(const Job& job) {
  cuda::run(job, {});
  return status();
}
const char* scan(const ScanJob& job) {
  cuda::scan(job);
  return status();
}
const char* exact(const ExactJob& job) {
  run_exact_sum(job.type, job.g, job.x, job.workspace, job.out, static_cast<Stream>(job.stream));
  return status();
}
const char* fold(const SegmentJob& job) {
  cuda::fold(job);
  return status();
}

int64_t run_workspace(const Job& job) { return cuda::run_workspace(job, {}); }
int64_t exact_workspace(const ExactJob& job) { return exact_sum_workspace(job.type, job.g); }

}  // namespace

extern const Kernels kCuda;
const Kernels kCuda = {"CUDA",
                       run,
                       scan,
                       exact,
                       fold,
                       /*own=*/nullptr,
                       run_workspace,
                       cuda::scan_workspace,
                       exact_workspace,
                       cuda::fold_workspace};

}  // namespace detprobe
