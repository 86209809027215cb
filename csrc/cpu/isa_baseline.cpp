// The kernels for the compiler's own target.
#include "simd/std.h"

// Ops read those numbers of a row that they have; the compiler cannot tell.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define DETPROBE_TABLE kBaseline
#define DETPROBE_KERNELS "all.h"
#include "simd/for_baseline.h"
