// What arith/functions.h asks of a context, for one number of one CUDA thread; and with it the steps and the ops.
//
// Floats go through arith/fp.h, whose functions round by name on a device; on the emulator they are plain host code.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include "../arith/job.h"
#include "../arith/order.h"
#include "device.h"

#define DETPROBE_FN __device__ __forceinline__

namespace detprobe::cuda {

template <class V>
using Scalar = V;
template <class V>
using Int = std::conditional_t<sizeof(V) == 4, int32_t, int64_t>;
template <class V>
using Word = std::conditional_t<sizeof(V) == 4, uint32_t, uint64_t>;

#define DETPROBE_FLOAT(A)                                     \
  DETPROBE_FN A add(A x, A y) { return detprobe::add(x, y); } \
  DETPROBE_FN A sub(A x, A y) { return detprobe::sub(x, y); } \
  DETPROBE_FN A mul(A x, A y) { return detprobe::mul(x, y); } \
  DETPROBE_FN A div(A x, A y) { return detprobe::div(x, y); } \
  DETPROBE_FN A root(A x) { return detprobe::root(x); }       \
  DETPROBE_FN A fused(A x, A y, A z) { return detprobe::fma(x, y, z); }
DETPROBE_FLOAT(float)
DETPROBE_FLOAT(double)
#undef DETPROBE_FLOAT
// Sums wrap, so integers are unsigned here.
DETPROBE_FN uint64_t add(uint64_t x, uint64_t y) { return x + y; }
DETPROBE_FN uint64_t fused(uint64_t x, uint64_t y, uint64_t z) { return x * y + z; }

template <class V>
DETPROBE_FN V splat(V x) {
  return x;
}
template <class To, class From>
DETPROBE_FN To cast(From from) {
  return bits_as<To>(from);
}
template <class V, class F>
DETPROBE_FN V each_lane(V x, const F& f) {
  return f(x);
}

template <class V>
DETPROBE_FN V larger_of(V x, V y) {
  return x > y ? x : y;
}

#include "../arith/functions.h"
#include "../arith/steps.h"
#include "../arith/ops.h"

}  // namespace detprobe::cuda
