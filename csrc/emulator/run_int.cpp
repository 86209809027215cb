// The reductions of integers, compiled for the emulator.
#include "../cuda/run.cuh"

namespace detprobe::cuda {
DETPROBE_KERNELS(, uint64_t)
}
