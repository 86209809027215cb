// EXACT-1 on the CPU: the sums of rows as real numbers, rounded once. See csrc/README.md.
#pragma once

#include <cstdint>

#include "../arith/geometry.h"

namespace detprobe {

enum class Type : int32_t;

// out[row], in the type of x, which is a float. Element i of a row lies where strides a of the geometry put it.
void exact_sum(Type type, const Geometry& g, const void* x, void* out);

}  // namespace detprobe
