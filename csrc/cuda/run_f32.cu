// The reductions of float16, bfloat16 and float32, compiled by nvcc: everything is in the .cuh files.
#include "run.cuh"

namespace detprobe::cuda {
DETPROBE_KERNELS(, float)
}
