// Compiles DETPROBE_KERNELS for AVX-512 (F, DQ, BW, VL). No include guard: a file for one instruction set includes it
// once.

#define DETPROBE_NAME "avx512"
#define DETPROBE_BYTES 64
#define DETPROBE_F16C 1
#define DETPROBE_FMA 1
#define DETPROBE_AVX512 1

// Lambdas are said to return vectors without AVX; they are inlined, and the object file has no such code.
#pragma GCC diagnostic ignored "-Wpsabi"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512dq,avx512bw,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512dq,avx512bw,avx512vl")
#endif
namespace detprobe {
#include DETPROBE_KERNELS
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
