// The inner loops of EXACT-1, for one instruction set. No include guard on purpose: exact.cpp includes this once for
// each, inside a namespace and after a target pragma. DETPROBE_EXACT_BYTES is the width of a vector.
//
// Two ways, both exact or refused:
//   - doubles: f16, bf16 and f32 are added up as doubles; the processor's inexact flag tells whether any addition
//     rounded. Infinities, NaN and the sign of zero come out as the contract has them, because IEEE has them so.
//   - units: x + 1.5 * 2^(e+52) rounds x to a multiple of 2^e, whose integer stands in the low bits of the sum:
//   integers
//     add up exactly. The rest goes the same way at 2^(e-51). So each element may have 102 bits below the largest.
// Source: the constant is Dekker's and Knuth's trick of adding a large number; the flag is IEEE 754's.

constexpr int kWidth = DETPROBE_EXACT_BYTES / 8, kVecs = 8, kLanes = kWidth * kVecs;
typedef double V __attribute__((vector_size(DETPROBE_EXACT_BYTES)));
typedef uint64_t U __attribute__((vector_size(DETPROBE_EXACT_BYTES)));
typedef float Narrow __attribute__((vector_size(DETPROBE_EXACT_BYTES / 2)));

inline __attribute__((always_inline)) V load(const double* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
// The compiler makes many instructions of a __builtin_convertvector to vectors of 32 bytes; AVX2 has one.
inline __attribute__((always_inline)) V load(const float* p) {
#if DETPROBE_EXACT_AVX2
  return reinterpret_cast<V>(_mm256_cvtps_pd(_mm_loadu_ps(p)));
#else
  Narrow v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, V);
#endif
}
inline __attribute__((always_inline)) V load(const bfloat_t* p) {
#if DETPROBE_EXACT_AVX2
  const __m128i u = _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return reinterpret_cast<V>(_mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(u, 16))));
#else
  typedef uint16_t In __attribute__((vector_size(DETPROBE_EXACT_BYTES / 4)));
  typedef uint32_t Wide __attribute__((vector_size(DETPROBE_EXACT_BYTES / 2)));
  In in;
  std::memcpy(&in, p, sizeof in);
  const Wide wide = __builtin_convertvector(in, Wide) << 16;
  Narrow v;
  std::memcpy(&v, &wide, sizeof v);
  return __builtin_convertvector(v, V);
#endif
}
inline __attribute__((always_inline)) V load(const half_t* p) {
#if DETPROBE_EXACT_AVX2
  const __m128 v = _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return reinterpret_cast<V>(_mm256_cvtps_pd(v));
#else
  V v;
  for (int l = 0; l < kWidth; ++l) v[l] = widen(p[l]);
  return v;
#endif
}

// Sums in double of `n` elements side by side.
template <class T>
inline __attribute__((always_inline)) double sum_of(const T* x, int64_t n) {
  V t = -V{};  // adding -0.0 changes nothing
  int64_t i = 0;
  if (n >= kLanes) {
    V a[kVecs];
#pragma GCC unroll 8
    for (int v = 0; v < kVecs; ++v) a[v] = load(x + v * kWidth);
    for (i = kLanes; i + kLanes <= n; i += kLanes) {
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; ++v) a[v] += load(x + i + v * kWidth);
    }
    t = ((a[0] + a[1]) + (a[2] + a[3])) + ((a[4] + a[5]) + (a[6] + a[7]));
  }
  for (; i + kWidth <= n; i += kWidth) t += load(x + i);
  double sum = t[0];
  for (int l = 1; l < kWidth; ++l) sum += t[l];
  for (; i < n; ++i) sum += static_cast<double>(widen(x[i]));
  return sum;
}

// out[r] of the rows at offset[r]. True where every addition was exact. Clears the flag before, and leaves it as it is.
template <class T>
bool sum_rows(const T* x, const int64_t* offset, int64_t rows, int64_t n, double* out) {
  clear_inexact();
  for (int64_t r = 0; r < rows; ++r) {
    out[r] = sum_of(x + offset[r], n);
  }
  asm volatile("" ::: "memory");
  return !inexact();
}

// Adds `Rows` rows of x to `columns` sums, a multiple of 2 * kWidth.
template <int Rows, class T>
inline __attribute__((always_inline)) void add_rows(const T* x, int64_t stride, int64_t columns, double* sums) {
  for (int64_t c = 0; c < columns; c += 2 * kWidth) {
    V a, b;
    std::memcpy(&a, sums + c, sizeof a);
    std::memcpy(&b, sums + c + kWidth, sizeof b);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      a += load(x + c + r * stride);
      b += load(x + c + r * stride + kWidth);
    }
    std::memcpy(sums + c, &a, sizeof a);
    std::memcpy(sums + c + kWidth, &b, sizeof b);
  }
}

// out[c] of `steps` elements at x + c, x + c + stride, ... for neighbouring columns, a multiple of 2 * kWidth of them.
// Eight rows at a time, along the columns, so that memory is read in eight streams.
template <class T>
bool sum_columns(const T* x, int64_t steps, int64_t stride, int64_t columns, double* out) {
  clear_inexact();
  for (int64_t c = 0; c < columns; ++c) out[c] = -0.0;
  int64_t s = 0;
  for (; s + 8 <= steps; s += 8) add_rows<8>(x + s * stride, stride, columns, out);
  for (; s < steps; ++s) add_rows<1>(x + s * stride, stride, columns, out);
  asm volatile("" ::: "memory");
  return !inexact();
}

// Sums in units of 2^e and 2^(e - kLow), two vectors wide.
struct UnitLanes {
  double magic, magic_low;
  U high[2] = {}, low[2] = {}, moved = {}, rest = {};

  explicit UnitLanes(int32_t e)
      : magic(bits_as<double>(static_cast<uint64_t>(e + 52 + 1023) << 52 | 1ull << 51)),
        magic_low(bits_as<double>(static_cast<uint64_t>(e - kLow + 52 + 1023) << 52 | 1ull << 51)) {}

  template <class T>
  inline __attribute__((always_inline)) void step(const T* x) {
    for (int at = 0; at < 2; ++at) {
      const V v = load(x + at * kWidth);
      const V t = v + magic;
      const V left = v - (t - magic);
      const V t_low = left + magic_low;
      const V kept = t_low - magic_low;
      high[at] += reinterpret_cast<U>(t);
      low[at] += reinterpret_cast<U>(t_low);
      // Sign and exponent of t stand still as long as v fits.
      moved |= reinterpret_cast<U>(t) ^ bits_as<uint64_t>(magic);
      rest |= reinterpret_cast<U>(left) ^ reinterpret_cast<U>(kept);
    }
  }
  // Of lane `l`, after `steps`.
  inline __attribute__((always_inline)) Units of(int l, int64_t steps) const {
    const uint64_t count = static_cast<uint64_t>(steps);
    const int at = l / kWidth, k = l % kWidth;
    return {static_cast<int64_t>(high[at][k] - count * bits_as<uint64_t>(magic)),
            static_cast<int64_t>(low[at][k] - count * bits_as<uint64_t>(magic_low)), fits(), exact()};
  }
  inline __attribute__((always_inline)) bool fits() const {
    uint64_t all = 0;
    for (int k = 0; k < kWidth; ++k) all |= moved[k];
    return all >> 52 == 0;
  }
  inline __attribute__((always_inline)) bool exact() const {  // zeros of either sign are no rest
    uint64_t all = 0;
    for (int k = 0; k < kWidth; ++k) all |= rest[k];
    return all << 1 == 0;
  }
};

template <class T>
Units sum_units(const T* x, int64_t n, int32_t e) {
  UnitLanes lanes(e);
  int64_t i = 0;
  for (; i + 2 * kWidth <= n; i += 2 * kWidth) lanes.step(x + i);
  if (i < n) {
    T padded[2 * kWidth] = {};
    std::memcpy(padded, x + i, (n - i) * sizeof(T));
    lanes.step(padded);
    i += 2 * kWidth;
  }
  Units sum = {0, 0, lanes.fits(), lanes.exact()};
  for (int l = 0; l < 2 * kWidth; ++l) {
    const Units u = lanes.of(l, i / (2 * kWidth));
    sum.high = add(sum.high, u.high);
    sum.low = add(sum.low, u.low);
  }
  return sum;
}

// The same for 2 * kWidth neighbouring columns.
template <class T>
void sum_unit_columns(const T* x, int64_t steps, int64_t stride, int32_t e, Units* out) {
  UnitLanes lanes(e);
  for (int64_t s = 0; s < steps; ++s) lanes.step(x + s * stride);
  for (int l = 0; l < 2 * kWidth; ++l) out[l] = lanes.of(l, steps);
}

// The bits of the largest magnitude, as acc_t<T>; more than those of infinity where there is a NaN.
template <class T>
int64_t largest(const T* x, int64_t n) {
  using Bits = std::conditional_t<kDoubles<T>, int32_t, int64_t>;
  Bits top = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Bits size = bits_as<Bits>(widen(x[i])) & std::numeric_limits<Bits>::max();
    top = size > top ? size : top;
  }
  return top;
}

// Two words of a sum for each element; the upper one takes up to 53 bits, so 512 may be added before the next carry.
template <class T>
void add_digits(int64_t* word, const T* x, int64_t n) {
  using F = FloatBits<T>;
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = bits_as<typename F::Word>(x[i]);
    const int64_t sign = -static_cast<int64_t>(bits >> (F::kFraction + F::kExponent));
    const int32_t e = static_cast<int32_t>(bits >> F::kFraction) & ((1 << F::kExponent) - 1), normal = e != 0;
    const int64_t size = static_cast<int64_t>(bits & ((static_cast<uint64_t>(1) << F::kFraction) - 1)) |
                         static_cast<int64_t>(normal) << F::kFraction;
    const int64_t m = (size ^ sign) - sign;
    const int32_t shift = F::kUnit + e - normal, at = shift >> 5, by = shift & 31;
    word[at] += static_cast<int64_t>(static_cast<uint64_t>(m) << by) & kDigitMask;
    word[at + 1] += m >> (32 - by);
  }
}

template <class T>
Blocks<T> blocks() {
  Blocks<T> all;
  all.few = 2 * kWidth;
  all.sum_units = sum_units<T>;
  all.sum_unit_columns = sum_unit_columns<T>;
  all.largest = largest<T>;
  all.add_digits = add_digits<T>;
  if constexpr (kDoubles<T>) {
    all.sum_rows = sum_rows<T>;
    all.sum_columns = sum_columns<T>;
  }
  return all;
}
