// The reductions of float64, compiled by nvcc: everything is in the .cuh files.
#include "run.cuh"

namespace detprobe::cuda {
DETPROBE_KERNELS(, double)
}
