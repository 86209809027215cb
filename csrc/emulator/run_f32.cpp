// The reductions of float16, bfloat16 and float32, compiled for the emulator.
#include "../cuda/run.cuh"

namespace detprobe::cuda {
DETPROBE_KERNELS(, float)
}
