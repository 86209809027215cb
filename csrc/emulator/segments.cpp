// The scatter family, compiled for the emulator.
#include "../cuda/segments.cuh"

namespace detprobe::cuda {
DETPROBE_SEGMENTS(, half_t)
DETPROBE_SEGMENTS(, bfloat_t)
DETPROBE_SEGMENTS(, float)
DETPROBE_SEGMENTS(, double)
}  // namespace detprobe::cuda
