// The kernels for AVX2, FMA and F16C.
#include "simd/std.h"

// Ops read those numbers of a row that they have; the compiler cannot tell.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#if defined(__x86_64__)
#define DETPROBE_TABLE kAvx2
#define DETPROBE_KERNELS "all.h"
#include "simd/for_avx2.h"
#endif
