// The reductions of integers, compiled by nvcc: everything is in the .cuh files.
#include "run.cuh"

namespace detprobe::cuda {
DETPROBE_KERNELS(, uint64_t)
}
