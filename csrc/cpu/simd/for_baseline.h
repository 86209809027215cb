// Compiles DETPROBE_KERNELS for the compiler's own target: SSE2 on x86-64, NEON on aarch64. No include guard: a file
// for one instruction set includes it once.

#define DETPROBE_NAME "baseline"
#define DETPROBE_BYTES 16
#define DETPROBE_F16C 0
#define DETPROBE_FMA 0
#define DETPROBE_AVX512 0

namespace detprobe {
#include DETPROBE_KERNELS
}
