// How two elements of one type differ: bits, units in the last place, absolute difference.
//
// One code path for every type, steered by a small description of the format, because it runs only for elements whose
// bits differ. Header-only, for host and device; no torch, no CUDA header.
#pragma once

#include <cstdint>
#include <cstring>

#include "hash.h"

namespace detprobe {

enum class Kind : int32_t {
  kFloat,      // sign, exponent, mantissa; the all-ones exponent holds infinities and NaN (IEEE 754)
  kFloatFn,    // as above, without infinities: NaN is all ones in exponent and mantissa (float8_e4m3fn)
  kFloatFnuz,  // as above, without -0: its bit pattern is the one NaN (float8_*fnuz)
  kExponent,   // unsigned power of two, all ones is NaN (float8_e8m0fnu)
  kSigned,     // two's complement
  kUnsigned,   // bool too
  kOpaque      // packed or quantised: bits are compared, numbers are not
};

// `parts` numbers make one element (2 for complex), each of `bytes` bytes.
struct Format {
  Kind kind;
  int32_t bytes;
  int32_t parts;
  int32_t exponent_bits;
  int32_t mantissa_bits;
  int32_t bias;
};

// The counters of one comparison, in the layout of a row of `records`. All integers: adding them up in any order gives
// the same row.
struct Record {
  int64_t count = 0;      // elements whose bits differ
  int64_t nan_count = 0;  // of those, elements with a NaN against a number
  int64_t ulp = -1;       // largest distance between two numbers, saturated; -1: no such pair
  int64_t abs = -1;       // bits of the largest |a - b| as a double; -1: no such pair
  int64_t first = -1;     // smallest logical index that differs; -1: none
};

DETPROBE_HD uint64_t ones(int32_t bits) { return bits >= 64 ? ~0ull : (1ull << bits) - 1; }

DETPROBE_HD bool is_nan(uint64_t x, const Format& f) {
  const uint64_t magnitude = x & ones(f.exponent_bits + f.mantissa_bits);
  switch (f.kind) {
    case Kind::kFloat: return magnitude > (ones(f.exponent_bits) << f.mantissa_bits);
    case Kind::kFloatFn: return magnitude == ones(f.exponent_bits + f.mantissa_bits);
    case Kind::kFloatFnuz: return x == 1ull << (f.bytes * 8 - 1);
    case Kind::kExponent: return x == 0xFF;
    default: return false;
  }
}

// Distance in steps between two numbers of the format; +0 and -0 are the same number.
DETPROBE_HD uint64_t steps(uint64_t a, uint64_t b, const Format& f) {
  if (f.kind == Kind::kSigned) {
    const int32_t shift = 64 - f.bytes * 8;
    const int64_t x = static_cast<int64_t>(a << shift) >> shift, y = static_cast<int64_t>(b << shift) >> shift;
    return x > y ? static_cast<uint64_t>(x) - static_cast<uint64_t>(y)
                 : static_cast<uint64_t>(y) - static_cast<uint64_t>(x);
  }
  if (f.kind == Kind::kUnsigned || f.kind == Kind::kExponent) return a > b ? a - b : b - a;
  const uint64_t sign = 1ull << (f.bytes * 8 - 1);
  const uint64_t x = a & (sign - 1), y = b & (sign - 1);
  if ((a & sign) == (b & sign)) return x > y ? x - y : y - x;
  return x + y;
}

DETPROBE_HD double from_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

DETPROBE_HD uint64_t to_bits(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// 2^e for the exponents of a normal double.
DETPROBE_HD double power_of_two(int32_t e) { return from_bits(static_cast<uint64_t>(e + 1023) << 52); }

// The value as a double: exact for every float format, rounded for 64-bit integers beyond 2^53.
DETPROBE_HD double number(uint64_t x, const Format& f) {
  if (f.kind == Kind::kSigned) {
    const int32_t shift = 64 - f.bytes * 8;
    return static_cast<double>(static_cast<int64_t>(x << shift) >> shift);
  }
  if (f.kind == Kind::kUnsigned) return static_cast<double>(x);
  if (f.kind == Kind::kExponent) return power_of_two(static_cast<int32_t>(x) - 127);
  if (f.bytes == 8) return from_bits(x);
  const bool negative = (x >> (f.bytes * 8 - 1)) != 0;
  const uint64_t mantissa = x & ones(f.mantissa_bits);
  const int32_t exponent = static_cast<int32_t>((x >> f.mantissa_bits) & ones(f.exponent_bits));
  double value;
  if (f.kind == Kind::kFloat && exponent == static_cast<int32_t>(ones(f.exponent_bits))) {
    value = from_bits(0x7FF0000000000000ull);  // an infinity: NaN never comes here
  } else if (exponent == 0) {
    value = static_cast<double>(mantissa) * power_of_two(1 - f.bias - f.mantissa_bits);
  } else {
    value =
        static_cast<double>(mantissa | (1ull << f.mantissa_bits)) * power_of_two(exponent - f.bias - f.mantissa_bits);
  }
  return negative ? -value : value;
}

// Little-endian load of one part.
template <class Word>
DETPROBE_HD uint64_t load_word(const unsigned char* at) {
#ifdef __CUDA_ARCH__
  return *reinterpret_cast<const Word*>(at);  // device memory is aligned to its type; memcpy would go byte by byte
#else
  Word word;
  memcpy(&word, at, sizeof word);
  return word;
#endif
}

DETPROBE_HD uint64_t load_part(const unsigned char* at, int32_t bytes) {
  if (bytes == 1) return *at;
  if (bytes == 2) return load_word<uint16_t>(at);
  if (bytes == 4) return load_word<uint32_t>(at);
  return load_word<uint64_t>(at);
}

// Adds the element at logical index `i` to the record. `a` and `b` point at its first part and are aligned to a part.
DETPROBE_HD void compare_element(const unsigned char* a, const unsigned char* b, const Format& f, int64_t i,
                                 Record& r) {
  bool differs = false, nan = false;
  for (int32_t p = 0; p < f.parts; ++p) {
    const uint64_t x = load_part(a + p * f.bytes, f.bytes), y = load_part(b + p * f.bytes, f.bytes);
    if (x == y) continue;
    differs = true;
    const bool x_nan = is_nan(x, f), y_nan = is_nan(y, f);
    nan = nan || x_nan != y_nan;
    if (x_nan || y_nan || f.kind == Kind::kOpaque) continue;
    const uint64_t far = steps(x, y, f);
    const int64_t ulp = far > 0x7FFFFFFFFFFFFFFFull ? 0x7FFFFFFFFFFFFFFFll : static_cast<int64_t>(far);
    if (ulp > r.ulp) r.ulp = ulp;
    const double gap = number(x, f) - number(y, f);
    const int64_t abs = static_cast<int64_t>(to_bits(gap) & 0x7FFFFFFFFFFFFFFFull);
    if (abs > r.abs) r.abs = abs;
  }
  if (!differs) return;
  r.count += 1;
  r.nan_count += nan ? 1 : 0;
  if (r.first < 0 || i < r.first) r.first = i;
}

}  // namespace detprobe
