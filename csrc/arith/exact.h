// EXACT-1: a sum of floats without rounding, as an array of integers that is rounded once at the end.
//
// Computes:  the sum of all that was added, as a real number, rounded to nearest, ties to even.
// Order:     none. Every word is a plain sum of integers, so every order, split and merge gives the same number.
// Types:     f16, bf16, f32 in one grid (unit 2^-149), f64 in another (unit 2^-1074).   Level: device_to_device.
// Domain:    up to 2^62 elements; NaN and infinities are counted beside the digits, and so is all that is not -0.0.
//
// A number is a sum of word[k] * 2^(32k) units. Carries are delayed: a digit is a signed 64-bit word, one addition
// changes it by less than 2^32, so carry() is due after 2^30 additions. Nothing here uses float arithmetic.
#pragma once

#include "fp.h"
#include "geometry.h"

namespace detprobe {

// The same rows, their elements in the order of memory, largest stride first: a sum without an order may take it.
inline Geometry any_order(const Geometry& g) {
  const auto before = [](int64_t x, int64_t y) {
    return x == 0 ? y != 0 : y != 0 && (x < 0 ? -x : x) > (y < 0 ? -y : y);
  };
  int64_t size[kMaxDims], stride[kMaxDims];
  for (int32_t d = 0; d < g.reduced.dims; ++d) {
    int32_t at = d;
    for (; at > 0 && before(g.reduced.a[d], stride[at - 1]); --at) {
      size[at] = size[at - 1];
      stride[at] = stride[at - 1];
    }
    size[at] = g.reduced.sizes[d];
    stride[at] = g.reduced.a[d];
  }
  Geometry out = g;
  join(size, stride, stride, g.reduced.dims, out.reduced);
  return out;
}

// How T is laid out, and where its smallest subnormal lies in the grid of its acc.
template <class T>
struct FloatBits;
template <>
struct FloatBits<half_t> {
  using Word = uint16_t;
  using Mantissa = int32_t;
  static constexpr int32_t kFraction = 10, kExponent = 5, kUnit = 125;
};
template <>
struct FloatBits<bfloat_t> {
  using Word = uint16_t;
  using Mantissa = int32_t;
  static constexpr int32_t kFraction = 7, kExponent = 8, kUnit = 16;
};
template <>
struct FloatBits<float> {
  using Word = uint32_t;
  using Mantissa = int32_t;
  static constexpr int32_t kFraction = 23, kExponent = 8, kUnit = 0;
};
template <>
struct FloatBits<double> {
  using Word = uint64_t;
  using Mantissa = int64_t;
  static constexpr int32_t kFraction = 52, kExponent = 11, kUnit = 0;
};

// A finite element is m * 2^shift units.
template <class T>
struct Parts {
  typename FloatBits<T>::Mantissa m;
  int32_t shift;
  bool special;  // infinite or NaN
};

template <class T>
DETPROBE_HD Parts<T> parts(T x) {
  using F = FloatBits<T>;
  using M = typename F::Mantissa;
  const auto word = bits_as<typename F::Word>(x);
  const int32_t e = static_cast<int32_t>(word >> F::kFraction) & ((1 << F::kExponent) - 1);
  const M fraction = static_cast<M>(word & ((static_cast<M>(1) << F::kFraction) - 1));
  const M m = e ? fraction | static_cast<M>(1) << F::kFraction : fraction;
  const bool minus = (word >> (F::kFraction + F::kExponent)) & 1u;
  return {minus ? -m : m, F::kUnit + (e ? e - 1 : 0), e == (1 << F::kExponent) - 1};
}

template <class T>
DETPROBE_HD bool is_minus_zero(T x) {
  using Word = typename FloatBits<T>::Word;
  return bits_as<Word>(x) == static_cast<Word>(static_cast<Word>(1) << (8 * sizeof(Word) - 1));
}

DETPROBE_HD int32_t leading_zeros(uint64_t x) {  // x > 0
#ifdef __CUDA_ARCH__
  return __clzll(static_cast<long long>(x));
#else
  return __builtin_clzll(x);
#endif
}

constexpr int64_t kDigitMask = 0xFFFFFFFF;

// What v * 2^shift adds to the digits at, at + 1 and at + 2, each of them less than 2^32.
struct Addend {
  int32_t at;
  int64_t part[3];
};
DETPROBE_HD Addend addend(int64_t v, int32_t shift) {
  const int32_t by = shift & 31;
  const int64_t low = static_cast<int64_t>(static_cast<uint64_t>(v & kDigitMask) << by);
  const int64_t high = static_cast<int64_t>(static_cast<uint64_t>(v >> 32) << by) + (low >> 32);
  return {shift >> 5, {low & kDigitMask, high & kDigitMask, high >> 32}};
}

// +-(head + a bit more, if `sticky`) * 2^position units, rounded once. head > 0; where position > 0 or bits are
// missing, its highest bit is set.
template <class T>
DETPROBE_HD T compose(bool minus, uint64_t head, int32_t position, bool sticky) {
  using F = FloatBits<T>;
  const int32_t top = position + 63 - leading_zeros(head);
  const int32_t last = top - F::kFraction > F::kUnit ? top - F::kFraction : F::kUnit;  // of the result's bits
  const int32_t drop = last - position;
  uint64_t m = head;
  if (drop > 0) {
    m = drop < 64 ? head >> drop : 0;
    const uint64_t half = static_cast<uint64_t>(1) << (drop - 1), rest = head & (half - 1);
    m += (head & half) && (rest || sticky || (m & 1u)) ? 1 : 0;
  } else {
    m = head << -drop;
  }
  // The leading bit of m counts the exponent up by one, as a carry out of the rounding does.
  const uint64_t infinity = ((static_cast<uint64_t>(1) << F::kExponent) - 1) << F::kFraction;
  uint64_t word = (static_cast<uint64_t>(last - F::kUnit) << F::kFraction) + m;
  if (word > infinity) word = infinity;
  word |= static_cast<uint64_t>(minus) << (F::kFraction + F::kExponent);
  return bits_as<T>(static_cast<typename F::Word>(word));
}

template <class A>
struct ExactSum {
  // 2^63 times the largest element, and a sign.
  static constexpr int32_t kDigits = sizeof(A) == 4 ? 11 : 68;
  static constexpr int32_t kNan = kDigits, kUp = kDigits + 1, kDown = kDigits + 2, kOther = kDigits + 3;
  static constexpr int32_t kWords = kDigits + 4;

  int64_t word[kWords] = {};  // digits; then how many NaN, infinities of each sign, and elements other than -0.0

  DETPROBE_HD void add_units(int64_t v, int32_t shift) {
    const Addend a = addend(v, shift);
    for (int32_t i = 0; i < 3; ++i) word[a.at + i] += a.part[i];
  }

  template <class T>
  DETPROBE_HD void add(T x) {
    const Parts<T> p = parts(x);
    word[kOther] += !is_minus_zero(x);
    if (p.special) {
      add_special(x);
    } else {
      add_units(p.m, p.shift);
    }
  }

  // Where the word of an infinity or NaN is.
  template <class T>
  DETPROBE_HD static int32_t kind(T x) {
    using F = FloatBits<T>;
    const auto bits = bits_as<typename F::Word>(x);
    if (bits & ((static_cast<typename F::Mantissa>(1) << F::kFraction) - 1)) return kNan;
    return bits >> (F::kFraction + F::kExponent) ? kDown : kUp;
  }
  template <class T>
  DETPROBE_HD void add_special(T x) {
    ++word[kind(x)];
  }

  DETPROBE_HD void merge(const ExactSum& other) {
    for (int32_t i = 0; i < kWords; ++i) word[i] += other.word[i];
  }

  // Brings all digits but the last into 0 .. 2^32 - 1.
  DETPROBE_HD void carry() { carry(word); }
  DETPROBE_HD static void carry(int64_t* word) {
    for (int32_t i = 0; i + 1 < kDigits; ++i) {
      word[i + 1] += word[i] >> 32;
      word[i] &= kDigitMask;
    }
  }
};

// The sum of `n` elements, from the words of an ExactSum. The digits are carried, and made positive.
template <class T>
DETPROBE_HD T round_words(int64_t* d, int64_t n) {
  using F = FloatBits<T>;
  using Sum = ExactSum<acc_t<T>>;
  using Word = typename F::Word;
  const uint64_t infinity = ((static_cast<uint64_t>(1) << F::kExponent) - 1) << F::kFraction;
  const uint64_t sign = static_cast<uint64_t>(1) << (F::kFraction + F::kExponent);
  if (d[Sum::kNan] || (d[Sum::kUp] && d[Sum::kDown])) {
    return bits_as<T>(static_cast<Word>(infinity | static_cast<uint64_t>(1) << (F::kFraction - 1)));
  }
  if (d[Sum::kUp] || d[Sum::kDown]) return bits_as<T>(static_cast<Word>(infinity | (d[Sum::kDown] ? sign : 0)));
  Sum::carry(d);
  const bool minus = d[Sum::kDigits - 1] < 0;
  if (minus) {
    for (int32_t i = 0; i < Sum::kDigits; ++i) d[i] = -d[i];
    Sum::carry(d);
  }
  int32_t k = Sum::kDigits - 1;
  while (k >= 0 && d[k] == 0) --k;
  if (k < 0) return bits_as<T>(static_cast<Word>(n > 0 && d[Sum::kOther] == 0 ? sign : 0));
  // The 64 bits from the highest one on; where there are not as many, from unit 0.
  const int32_t top = 32 * k + 63 - leading_zeros(static_cast<uint64_t>(d[k]));
  const int32_t position = top > 63 ? top - 63 : 0, by = position & 31, low = position >> 5;
  uint64_t head = 0;
  for (int32_t i = low; i <= k; ++i) {
    const int32_t at = 32 * (i - low) - by;
    head |= at < 0 ? static_cast<uint64_t>(d[i]) >> -at : static_cast<uint64_t>(d[i]) << at;
  }
  bool sticky = (d[low] & ((static_cast<int64_t>(1) << by) - 1)) != 0;
  for (int32_t i = 0; i < low && !sticky; ++i) sticky = d[i] != 0;
  return compose<T>(minus, head, position, sticky);
}
template <class T>
DETPROBE_HD T round_to(ExactSum<acc_t<T>>& sum, int64_t n) {
  return round_words<T>(sum.word, n);
}

}  // namespace detprobe
