// One row of EXACT-1 on the CPU: which way a block is added, and what is done when it is too wide for the fast ones.
//
// The ways, from fast to slow: as doubles (24 of 53 bits are the element's), as units (102 bits below the largest),
// into bins, one for each exponent (f32, bf16), or digit by digit. All of them are exact, so the choice, which
// depends on the neighbours of an element, cannot be seen in the result.
#pragma once

#include <algorithm>
#include <cfenv>
#include <cstring>
#include <type_traits>

#include "../arith/exact.h"
#include "float_mode.h"

namespace detprobe {
namespace exact {

// Clears and reads the flag that says that an operation has rounded.
inline void clear_inexact() {
#if defined(__x86_64__)
  const uint32_t mode = _mm_getcsr();
  if (mode & 0x3Fu) _mm_setcsr(mode & ~0x3Fu);
#else
  std::feclearexcept(FE_ALL_EXCEPT);
#endif
  asm volatile("" ::: "memory");
}
inline bool inexact() {
  asm volatile("" ::: "memory");
#if defined(__x86_64__)
  return _mm_getcsr() & 0x20u;
#else
  return std::fetestexcept(FE_INEXACT) != 0;
#endif
}

// The float environment of the contract; the caller's comes back, flags included.
class Environment {
#if defined(__x86_64__)
 public:
  Environment() : saved_(_mm_getcsr()) { _mm_setcsr(0x1F80u); }
  ~Environment() { _mm_setcsr(saved_); }

 private:
  uint32_t saved_;
#else
 public:
  Environment() { std::fegetexceptflag(&saved_, FE_ALL_EXCEPT); }
  ~Environment() { std::fesetexceptflag(&saved_, FE_ALL_EXCEPT); }

 private:
  std::fexcept_t saved_;
  FloatMode mode_;
#endif
 public:
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
};

// sum = high * 2^e + low * 2^(e - kLow). `fits`: no element is as large as 2^(e + kLow).
struct Units {
  int64_t high, low;
  bool fits, exact;
};
constexpr int32_t kLow = 51;

constexpr int64_t kBlock = 4096;       // elements that are added as doubles before the flag is read
constexpr int64_t kFew = 8;            // at least Blocks::few
constexpr int64_t kUnitsBlock = 2048;  // 2^51 times as many still fit an int64

// Whether sums of T are tried as doubles.
template <class T>
constexpr bool kDoubles = sizeof(T) < 8;

// What an instruction set offers; see exact_blocks.h. For f64 there is no adding up as doubles.
template <class T>
struct Blocks {
  int64_t few;  // columns that are summed at once
  bool (*sum_rows)(const T* x, const int64_t* offset, int64_t rows, int64_t n, double* out) = nullptr;
  bool (*sum_columns)(const T* x, int64_t steps, int64_t stride, int64_t columns, double* out) = nullptr;
  Units (*sum_units)(const T* x, int64_t n, int32_t e);
  void (*sum_unit_columns)(const T* x, int64_t steps, int64_t stride, int32_t e, Units* out);  // `few`
  int64_t (*largest)(const T* x, int64_t n);
  void (*add_digits)(int64_t* word, const T* x, int64_t n);
};

// Adds `s`, a double that is an exact sum of elements, so a multiple of the grid's unit.
inline void add_double(ExactSum<float>& sum, double s) {
  if (is_minus_zero(s)) return;
  ++sum.word[ExactSum<float>::kOther];
  const Parts<double> p = parts(s);
  const int32_t shift = p.shift - (1074 - 149);
  if (p.special) return sum.add_special(s);
  if (p.m != 0) sum.add_units(shift < 0 ? p.m >> -shift : p.m, shift < 0 ? 0 : shift);
}

// `s`, an exact sum, rounded once to T.
template <class T>
T round_double(double s) {
  const float f = static_cast<float>(s);
  if (std::is_same_v<T, float> || static_cast<double>(f) == s || s != s) return narrow<T>(f);
  const Parts<double> p = parts(s);
  const int32_t shift = p.shift - (1074 - 149);
  const uint64_t m = static_cast<uint64_t>(p.m < 0 ? -p.m : p.m);
  return compose<T>(p.m < 0, shift < 0 ? m >> -shift : m, shift < 0 ? 0 : shift, false);
}

// A bin for each sign and exponent, for f32 and bf16, in four sets, so that neighbours of one exponent do not wait for
// each other. A bin counts in its upper 16 bits, and sums up the bits of its elements, as f32, below.
class Bins {
 public:
  template <class T>
  void add(ExactSum<float>& sum, const T* x, int64_t n) {
    if (count_ + n >= 1 << 16) flush(sum);
    if (count_ == 0) std::memset(set_, 0, sizeof set_);
    count_ += n;
    const auto put = [](uint64_t* set, uint32_t bits) { set[bits >> 23] += bits + (static_cast<uint64_t>(1) << 48); };
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
      put(set_[0], bits_of(x[i]));
      put(set_[1], bits_of(x[i + 1]));
      put(set_[2], bits_of(x[i + 2]));
      put(set_[3], bits_of(x[i + 3]));
    }
    for (; i < n; ++i) put(set_[0], bits_of(x[i]));
  }

  void flush(ExactSum<float>& sum) {
    if (count_ == 0) return;
    count_ = 0;
    for (int32_t at = 0; at < 512; ++at) {
      const uint64_t bin = set_[0][at] + set_[1][at] + set_[2][at] + set_[3][at];
      if (bin == 0) continue;
      const int64_t count = static_cast<int64_t>(bin >> 48), e = at & 255;
      const int64_t fractions = static_cast<int64_t>(bin << 16 >> 16) - count * (static_cast<int64_t>(at) << 23);
      if (at != 256 || fractions != 0) sum.word[ExactSum<float>::kOther] += count;
      if (e == 255) {
        const int32_t kind = at < 256 ? ExactSum<float>::kUp : ExactSum<float>::kDown;
        sum.word[fractions ? ExactSum<float>::kNan : kind] += count;
      } else {
        const int64_t v = fractions + (e ? count << 23 : 0);
        sum.add_units(at < 256 ? v : -v, e ? static_cast<int32_t>(e) - 1 : 0);
      }
    }
  }

 private:
  static uint32_t bits_of(float x) { return bits_as<uint32_t>(x); }
  static uint32_t bits_of(bfloat_t x) { return static_cast<uint32_t>(x.bits) << 16; }

  int64_t count_ = 0;
  uint64_t set_[4][512];
};

// Tries that failed make the next ones rarer: 1, 3, 7, 15 go by.
struct Patience {
  int32_t failed = 0, skip = 0;
  bool may_try() { return skip == 0 ? true : (--skip, false); }
  bool says(bool success) {
    failed = success ? 0 : std::min(failed + 1, 4);
    skip = success ? 0 : (1 << failed) - 1;
    return success;
  }
};

template <class T>
class Row {
 public:
  using Sum = ExactSum<acc_t<T>>;
  static constexpr bool kBins = kDoubles<T> && !std::is_same_v<T, half_t>;

  Patience batch;  // of the caller, for rows that are tried together

  explicit Row(const Blocks<T>& blocks) : blocks_(blocks) {}

  // Adds `n` elements side by side.
  void add(Sum& sum, const T* x, int64_t n) {
    constexpr int64_t kStep = kDoubles<T> ? kBlock : kUnitsBlock;
    for (int64_t i = 0; i < n; i += kStep) {
      const int64_t count = std::min(kStep, n - i);
      if (doubles(sum, x + i, count)) continue;
      for (int64_t k = i; k < i + count; k += kUnitsBlock) {
        const int64_t part = std::min(kUnitsBlock, i + count - k);
        if (!units(sum, x + k, part)) wide(sum, x + k, part);
      }
    }
    if constexpr (kBins) bins_.flush(sum);
  }

  // Adds `n` elements of each of blocks.few columns, the second of them `stride` on; or nothing.
  bool add_columns(Sum* sums, const T* x, int64_t n, int64_t stride) {
    Units u[kFew];
    blocks_.sum_unit_columns(x, n, stride, e_, u);
    if (!u[0].fits || !u[0].exact) return false;
    for (int64_t l = 0; l < blocks_.few; ++l) {
      add_units(sums[l], u[l]);
      if (sums[l].word[Sum::kOther] == 0) sums[l].word[Sum::kOther] += !all_minus_zero(x + l, n, stride);
    }
    return true;
  }

  // The sum of a short row, if it can be had without a Sum.
  bool short_row(const T* x, int64_t n, T& out) {
    if constexpr (kDoubles<T>) {
      const int64_t offset = 0;
      double s;
      if (!doubles_.may_try() || !doubles_.says(blocks_.sum_rows(x, &offset, 1, n, &s))) return false;
      out = round_double<T>(s);
      return true;
    } else {
      Units u;
      if (!units_.may_try() || !units_.says(try_units(x, n, u))) return false;
      __int128 v = static_cast<__int128>(u.high) * (static_cast<__int128>(1) << kLow) + u.low;
      const bool minus = v < 0;
      unsigned __int128 size = minus ? -static_cast<unsigned __int128>(v) : static_cast<unsigned __int128>(v);
      if (size == 0) {
        out = all_minus_zero(x, n) ? T(-0.0) : T(0);
        return true;
      }
      int32_t position = e_ - kLow - kLeast;
      bool sticky = false;
      if (const auto upper = static_cast<uint64_t>(size >> 64)) {
        const int32_t by = 64 - leading_zeros(upper);
        sticky = static_cast<uint64_t>(size) << (64 - by) != 0;
        size >>= by;
        position += by;
      }
      out = compose<T>(minus, static_cast<uint64_t>(size), position, sticky);
      return true;
    }
  }

 private:
  static constexpr int32_t kLeast = kDoubles<T> ? -149 : -1074;  // exponent of the grid's unit
  static constexpr int32_t kFraction = kDoubles<T> ? 23 : 52;
  static constexpr int64_t kInfinity = kDoubles<T> ? 0x7F800000 : 0x7FF0000000000000;
  static constexpr int32_t kMost = 970;  // a larger unit's constant would overflow

  bool doubles(Sum& sum, const T* x, int64_t n) {
    if constexpr (kDoubles<T>) {
      if (!doubles_.may_try()) return false;
      const int64_t offset = 0;
      double s;
      if (doubles_.says(blocks_.sum_rows(x, &offset, 1, n, &s))) {
        add_double(sum, s);
        return true;
      }
    }
    return false;
  }

  bool units(Sum& sum, const T* x, int64_t n) {
    if ((kDoubles<T> && n < 128) || !units_.may_try()) return false;
    Units u;
    if (!units_.says(try_units(x, n, u))) return false;
    add_units(sum, u);
    sum.word[Sum::kOther] += !all_minus_zero(x, n);
    return true;
  }

  void add_units(Sum& sum, const Units& u) {
    sum.add_units(u.high, e_ - kLeast);
    sum.add_units(u.low, e_ - kLow - kLeast);
  }

  bool try_units(const T* x, int64_t n, Units& u) {
    u = blocks_.sum_units(x, n, e_);
    if (u.fits && u.exact) return true;
    // One bit more than the largest element needs: the next block may be a little larger.
    const int32_t largest = static_cast<int32_t>(blocks_.largest(x, n) >> kFraction) - (kDoubles<T> ? 126 : 1022);
    const int32_t e = std::max(largest + 1 - kLow, kLeast + kLow);
    if (e == e_ || e > kMost) return false;
    e_ = e;
    u = blocks_.sum_units(x, n, e_);
    return u.fits && u.exact;
  }

  static bool all_minus_zero(const T* x, int64_t n, int64_t stride = 1) {
    for (int64_t i = 0; i < n; ++i) {
      if (!is_minus_zero(x[i * stride])) return false;
    }
    return n > 0;
  }

  void wide(Sum& sum, const T* x, int64_t n) {
    if constexpr (kBins) {
      if (n >= 1024) return bins_.add(sum, x, n);
    }
    if (blocks_.largest(x, n) >= kInfinity) {
      for (int64_t i = 0; i < n; ++i) sum.add(x[i]);
      return sum.carry();
    }
    sum.word[Sum::kOther] += !all_minus_zero(x, n);
    for (int64_t i = 0; i < n; i += 512) {
      blocks_.add_digits(sum.word, x + i, std::min<int64_t>(512, n - i));
      sum.carry();
    }
  }

  struct None {};
  const Blocks<T>& blocks_;
  int32_t e_ = -52;  // of the last block that was added as units
  Patience doubles_, units_;
  std::conditional_t<kBins, Bins, None> bins_;
};

}  // namespace exact
}  // namespace detprobe
