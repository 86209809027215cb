// DSEG-1 in numbers: what a record does to the value of its destination, for host and device.
//
// One rounding for each function, by arith/fp.h; none for amax and amin, which no order can change. A NaN has whatever
// bits it has: `narrow` makes it the canonical one when the result is stored.
#pragma once

#include <type_traits>

#include "fp.h"
#include "segments.h"

namespace detprobe {

// The value s with z folded in. Of amax and amin a NaN wins, and -0.0 is below +0.0: numbers that are equal differ in
// nothing but the sign of a zero, so `and` of their bits is the larger, `or` the smaller.
template <Fold F, class A>
DETPROBE_HD A folded(A s, A z) {
  if constexpr (F == Fold::sum) {
    return add(s, z);
  } else if constexpr (F == Fold::prod) {
    return mul(s, z);
  } else {
    using Word = std::conditional_t<sizeof(A) == 4, uint32_t, uint64_t>;
    const Word a = bits_as<Word>(s), b = bits_as<Word>(z);
    const A equal = bits_as<A>(F == Fold::amax ? a & b : a | b);
    const bool stays = s != s || (F == Fold::amax ? s > z : s < z);
    return stays ? s : (s == z ? equal : z);
  }
}

// Z / N: a start that is the destination's own number counts as one more.
template <class A>
DETPROBE_HD A divided(A z, int64_t records, Start start) {
  return div(z, static_cast<A>(records + (start == Start::given ? 1 : 0)));
}

}  // namespace detprobe
