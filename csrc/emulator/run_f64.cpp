// The reductions of float64, compiled for the emulator.
#include "../cuda/run.cuh"

namespace detprobe::cuda {
DETPROBE_KERNELS(, double)
}
