// The float environment that the contract asks for, on this thread, for as long as the object lives: round to nearest,
// subnormals kept. A library built with -ffast-math may have left another one behind, on any thread of the pool.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace detprobe {

class FloatMode {
 public:
#if defined(__x86_64__)
  FloatMode() : saved_(_mm_getcsr()) {
    if ((saved_ & kMask) != kMode) _mm_setcsr((saved_ & ~kMask) | kMode);
  }
  ~FloatMode() {
    if ((saved_ & kMask) != kMode) _mm_setcsr(saved_);
  }

 private:
  // Flush to zero, rounding mode, exception masks, denormals are zero.
  static constexpr uint32_t kMask = 0x8000u | 0x6000u | 0x1F80u | 0x0040u, kMode = 0x1F80u;
  uint32_t saved_;
#elif defined(__aarch64__)
  FloatMode() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    if (saved_ & kMask) asm volatile("msr fpcr, %0" ::"r"(saved_ & ~kMask));
  }
  ~FloatMode() {
    if (saved_ & kMask) asm volatile("msr fpcr, %0" ::"r"(saved_));
  }

 private:
  static constexpr uint64_t kMask = 1ull << 24 | 3ull << 22 | 1ull << 19;  // flush to zero, rounding, the same for f16
  uint64_t saved_;
#endif

 public:
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;
};

}  // namespace detprobe
