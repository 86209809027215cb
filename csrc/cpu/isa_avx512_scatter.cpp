// The kernels of the scatter family for AVX-512 (F, DQ, BW, VL).
#include "simd/std.h"

// Ops read those numbers of a row that they have; the compiler cannot tell.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#if defined(__x86_64__)
#define DETPROBE_TABLE kAvx512Scatter
#define DETPROBE_KERNELS "../scatter/all.h"
#include "simd/for_avx512.h"
#endif
