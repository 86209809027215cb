// What kernels.cu offers to ops_cuda.cpp: plain pointers and a stream, no torch. Returns CUDA's error text, or null.
#pragma once

#include <cstdint>

#include "../arith/layout.h"
#include "../arith/ulp.h"

namespace detprobe {

const char* launch_compare(const void* a, const void* b, const Layout& layout, const Format& format, int64_t n,
                           void* record, void* stream);
const char* launch_digest(const void* data, int64_t bytes, int32_t size, uint64_t shape, void* lanes, void* stream);

}  // namespace detprobe
