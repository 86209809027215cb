// The kernels of the scatter family for the compiler's own target.
#include "simd/std.h"

// Ops read those numbers of a row that they have; the compiler cannot tell.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define DETPROBE_TABLE kBaselineScatter
#define DETPROBE_KERNELS "../scatter/all.h"
#include "simd/for_baseline.h"
