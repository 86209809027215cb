// The kernels for the compiler's own target: SSE2 on x86-64, NEON on aarch64.
#include "simd/std.h"

// Ops read those numbers of a row that they have; the compiler cannot tell.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define DETPROBE_TABLE kBaseline
#define DETPROBE_NAME "baseline"
#define DETPROBE_BYTES 16
#define DETPROBE_F16C 0
#define DETPROBE_FMA 0
#define DETPROBE_AVX512 0

namespace detprobe {
#include "simd/all.h"
}
