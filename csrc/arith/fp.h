// The float operations of the contract, one rounding each, for host and device; and the types they work on.
//
// Device code gets its roundings by name, so that no flag can fuse them; host code by -ffp-contract=off.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "hash.h"

namespace detprobe {

#ifdef __CUDA_ARCH__
DETPROBE_HD float add(float x, float y) { return __fadd_rn(x, y); }
DETPROBE_HD float sub(float x, float y) { return __fsub_rn(x, y); }
DETPROBE_HD float mul(float x, float y) { return __fmul_rn(x, y); }
DETPROBE_HD float div(float x, float y) { return __fdiv_rn(x, y); }
DETPROBE_HD float root(float x) { return __fsqrt_rn(x); }
DETPROBE_HD float fma(float x, float y, float z) { return __fmaf_rn(x, y, z); }
DETPROBE_HD double add(double x, double y) { return __dadd_rn(x, y); }
DETPROBE_HD double sub(double x, double y) { return __dsub_rn(x, y); }
DETPROBE_HD double mul(double x, double y) { return __dmul_rn(x, y); }
DETPROBE_HD double div(double x, double y) { return __ddiv_rn(x, y); }
DETPROBE_HD double root(double x) { return __dsqrt_rn(x); }
DETPROBE_HD double fma(double x, double y, double z) { return __fma_rn(x, y, z); }
#else
template <class T>
DETPROBE_HD T add(T x, T y) {
  return x + y;
}
template <class T>
DETPROBE_HD T sub(T x, T y) {
  return x - y;
}
template <class T>
DETPROBE_HD T mul(T x, T y) {
  return x * y;
}
template <class T>
DETPROBE_HD T div(T x, T y) {
  return x / y;
}
DETPROBE_HD float root(float x) { return std::sqrt(x); }
DETPROBE_HD double root(double x) { return std::sqrt(x); }
DETPROBE_HD float fma(float x, float y, float z) { return std::fma(x, y, z); }
DETPROBE_HD double fma(double x, double y, double z) { return std::fma(x, y, z); }
#endif

// Integers wrap: signed arithmetic is done on the unsigned words.
DETPROBE_HD int64_t add(int64_t x, int64_t y) {
  return static_cast<int64_t>(static_cast<uint64_t>(x) + static_cast<uint64_t>(y));
}
DETPROBE_HD int64_t fma(int64_t x, int64_t y, int64_t z) {
  return static_cast<int64_t>(static_cast<uint64_t>(x) * static_cast<uint64_t>(y) + static_cast<uint64_t>(z));
}

template <class To, class From>
DETPROBE_HD To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits are copied, not converted");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// float16 and bfloat16 by their bits.
struct half_t {
  uint16_t bits;
};
struct bfloat_t {
  uint16_t bits;
};

template <class T>
struct acc_of {
  using type = int64_t;
};
template <>
struct acc_of<half_t> {
  using type = float;
};
template <>
struct acc_of<bfloat_t> {
  using type = float;
};
template <>
struct acc_of<float> {
  using type = float;
};
template <>
struct acc_of<double> {
  using type = double;
};
template <class T>
using acc_t = typename acc_of<T>::type;

// To acc, exactly.
template <class T>
DETPROBE_HD acc_t<T> widen(T x) {
  return static_cast<acc_t<T>>(x);
}
DETPROBE_HD float widen(bfloat_t x) { return bits_as<float>(static_cast<uint32_t>(x.bits) << 16); }
DETPROBE_HD float widen(half_t x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, rest = x.bits & 0x7FFFu;
  if (rest >= 0x7C00u) return bits_as<float>(sign | 0x7F800000u | (rest & 0x3FFu) << 13);
  if (rest >= 0x400u) return bits_as<float>(sign | ((rest << 13) + 0x38000000u));
  // Subnormal: rest * 2^-24, which is exact.
  return bits_as<float>(sign | bits_as<uint32_t>(static_cast<float>(rest) * 5.9604644775390625e-8f));
}

// From acc, rounded once to nearest, ties to even; a NaN becomes the canonical one. Integers keep their low bits.
template <class T>
DETPROBE_HD T narrow(acc_t<T> x) {
  return static_cast<T>(x);
}
template <>
DETPROBE_HD float narrow<float>(float x) {
  return x == x ? x : bits_as<float>(0x7FC00000u);
}
template <>
DETPROBE_HD double narrow<double>(double x) {
  return x == x ? x : bits_as<double>(static_cast<uint64_t>(0x7FF8000000000000u));
}
template <>
DETPROBE_HD bfloat_t narrow<bfloat_t>(float x) {
  if (x != x) return {0x7FC0u};
  const uint32_t u = bits_as<uint32_t>(x);
  return {static_cast<uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16)};
}
template <>
DETPROBE_HD half_t narrow<half_t>(float x) {
  if (x != x) return {0x7E00u};
  const uint32_t u = bits_as<uint32_t>(x), sign = (u >> 16) & 0x8000u, rest = u & 0x7FFFFFFFu;
  if (rest >= 0x47800000u) return {static_cast<uint16_t>(sign | 0x7C00u)};  // 2^16 and more
  uint32_t half;
  if (rest >= 0x38800000u) {  // normal: 2^-14 and more
    half = ((rest - 0x38000000u) + 0xFFFu + ((rest >> 13) & 1u)) >> 13;
  } else {
    // Adding 0.5 puts the unit of the subnormals at the last place of the mantissa: one rounding, by the addition.
    half = bits_as<uint32_t>(add(bits_as<float>(rest), 0.5f)) - 0x3F000000u;
  }
  return {static_cast<uint16_t>(sign | half)};
}

}  // namespace detprobe
