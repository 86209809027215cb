// Vectors of any width by the compiler's vector extensions: one source for SSE2, AVX2, AVX-512 and NEON.
//
// No include guard on purpose: each of the files isa_*.cpp includes this once, inside its own namespace and after its
// target pragma. DETPROBE_BYTES is the width of its widest vectors. What arith/functions.h asks of a context is here.

#define DETPROBE_FN inline __attribute__((always_inline))

template <class A, int Bytes>
struct VecOf {
  typedef A type __attribute__((vector_size(Bytes)));
};
template <class A, int Bytes>
using Vec = typename VecOf<A, Bytes>::type;

// Sums wrap, so integers are unsigned here.
template <class T>
using Acc = std::conditional_t<std::is_same_v<acc_t<T>, int64_t>, uint64_t, acc_t<T>>;

// The lane of a vector; of a number, itself.
template <class V, class = void>
struct LaneOf {
  using type = V;
  static constexpr int kCount = 1;
  template <class A>
  using Like = A;
};
template <class V>
struct LaneOf<V, std::void_t<decltype(std::declval<V>()[0])>> {
  using type = std::decay_t<decltype(std::declval<V>()[0])>;
  static constexpr int kCount = sizeof(V) / sizeof(type);
  template <class A>
  using Like = Vec<A, sizeof(A) * kCount>;
};
template <class V>
using Scalar = typename LaneOf<V>::type;
template <class V>
using Int = typename LaneOf<V>::template Like<std::conditional_t<sizeof(Scalar<V>) == 4, int32_t, int64_t>>;
template <class V>
using Word = typename LaneOf<V>::template Like<std::conditional_t<sizeof(Scalar<V>) == 4, uint32_t, uint64_t>>;

template <class V>
DETPROBE_FN V add(V x, V y) {
  return x + y;
}
template <class V>
DETPROBE_FN V sub(V x, V y) {
  return x - y;
}
template <class V>
DETPROBE_FN V mul(V x, V y) {
  return x * y;
}
template <class V>
DETPROBE_FN V div(V x, V y) {
  return x / y;
}

template <class To, class From>
DETPROBE_FN To cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bits are copied, not converted");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class V>
DETPROBE_FN V splat(Scalar<V> x) {
  if constexpr (LaneOf<V>::kCount == 1) {
    return x;
  } else {
    return x - V{};  // x - 0 is x for every x but a NaN's bits
  }
}

template <class V, class F>
DETPROBE_FN V each_lane(V x, const F& f) {
  if constexpr (LaneOf<V>::kCount == 1) {
    return f(x);
  } else {
    V out;
    for (int l = 0; l < LaneOf<V>::kCount; ++l) out[l] = f(x[l]);
    return out;
  }
}

template <class V>
DETPROBE_FN V root(V x) {
#if defined(__x86_64__)
  if constexpr (sizeof(V) == 16) {
    if constexpr (sizeof(Scalar<V>) == 4) return (V)_mm_sqrt_ps((__m128)x);
    if constexpr (sizeof(Scalar<V>) == 8) return (V)_mm_sqrt_pd((__m128d)x);
  }
#endif
  return each_lane(x, [](Scalar<V> lane) { return std::sqrt(lane); });
}

// x > y ? x : y, which is what the machine's maximum does.
template <class V>
DETPROBE_FN V larger_of(V x, V y) {
#if defined(__x86_64__)
  constexpr int kBytes = sizeof(V), kLane = sizeof(Scalar<V>);
  if constexpr (LaneOf<V>::kCount > 1 && kBytes == 16 && kLane == 4) return (V)_mm_max_ps((__m128)x, (__m128)y);
  if constexpr (LaneOf<V>::kCount > 1 && kBytes == 16 && kLane == 8) return (V)_mm_max_pd((__m128d)x, (__m128d)y);
#if DETPROBE_FMA
  if constexpr (kBytes == 32 && kLane == 4) return (V)_mm256_max_ps((__m256)x, (__m256)y);
  if constexpr (kBytes == 32 && kLane == 8) return (V)_mm256_max_pd((__m256d)x, (__m256d)y);
#endif
#endif
  return x > y ? x : y;
}

// x * y + z, rounded once.
template <class V>
DETPROBE_FN V fused(V x, V y, V z) {
  using A = Scalar<V>;
  [[maybe_unused]] constexpr int kBytes = sizeof(V);
  if constexpr (std::is_same_v<A, uint64_t>) return x * y + z;
#if DETPROBE_FMA
  if constexpr (kBytes == 16 && sizeof(A) == 4) return (V)_mm_fmadd_ps((__m128)x, (__m128)y, (__m128)z);
  if constexpr (kBytes == 16 && sizeof(A) == 8) return (V)_mm_fmadd_pd((__m128d)x, (__m128d)y, (__m128d)z);
  if constexpr (kBytes == 32 && sizeof(A) == 4) return (V)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
  if constexpr (kBytes == 32 && sizeof(A) == 8) return (V)_mm256_fmadd_pd((__m256d)x, (__m256d)y, (__m256d)z);
#endif
#if DETPROBE_AVX512
  if constexpr (kBytes == 64 && sizeof(A) == 4) return (V)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
  if constexpr (kBytes == 64 && sizeof(A) == 8) return (V)_mm512_fmadd_pd((__m512d)x, (__m512d)y, (__m512d)z);
#endif
  if constexpr (!std::is_same_v<A, uint64_t>) {
    if constexpr (LaneOf<V>::kCount == 1) {
      return std::fma(x, y, z);
    } else {
      for (int l = 0; l < LaneOf<V>::kCount; ++l) z[l] = std::fma(x[l], y[l], z[l]);
      return z;
    }
  }
}

template <class V>
DETPROBE_FN V load_bits(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
DETPROBE_FN void store_bits(void* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

// 0, 1, 2, ..
template <class V, int... I>
DETPROBE_FN V numbers(std::integer_sequence<int, I...>) {
  return V{I...};
}
template <class V>
DETPROBE_FN V lane_numbers() {
  return numbers<V>(std::make_integer_sequence<int, LaneOf<V>::kCount>{});
}

// The first `count` lanes from memory, the others 0; nothing behind them is touched.
template <class V>
DETPROBE_FN V load_some(const Scalar<V>* p, int64_t count) {
  if (count >= LaneOf<V>::kCount) return load_bits<V>(p);
  if (count <= 0) return V{};
#if DETPROBE_FMA
  if constexpr (sizeof(V) == 32) {
    const Int<V> lanes = lane_numbers<Int<V>>();
    const auto mask = (__m256i)(lanes < static_cast<Scalar<Int<V>>>(count));
    if constexpr (sizeof(Scalar<V>) == 4) return (V)_mm256_maskload_epi32((const int*)p, mask);
    if constexpr (sizeof(Scalar<V>) == 8) return (V)_mm256_maskload_epi64((const long long*)p, mask);
  }
#endif
  V v{};
  std::memcpy(&v, p, count * sizeof(Scalar<V>));
  return v;
}

// The first `count` lanes to memory, at most all; nothing behind them is touched.
template <class V>
DETPROBE_FN void store_some(Scalar<V>* p, V v, int64_t count) {
  if (count >= LaneOf<V>::kCount) return store_bits(p, v);
#if DETPROBE_FMA
  if constexpr (sizeof(V) == 32) {
    const Int<V> lanes = lane_numbers<Int<V>>();
    const auto mask = (__m256i)(lanes < static_cast<Scalar<Int<V>>>(count));
    if constexpr (sizeof(Scalar<V>) == 4) return _mm256_maskstore_epi32((int*)p, mask, (__m256i)v);
    if constexpr (sizeof(Scalar<V>) == 8) return _mm256_maskstore_epi64((long long*)p, mask, (__m256i)v);
  }
#endif
  std::memcpy(p, &v, count * sizeof(Scalar<V>));
}

// Loads as many elements as a vector of their acc holds, converted exactly.
template <int Bytes, class T>
DETPROBE_FN Vec<Acc<T>, Bytes> load(const T* p) {
  constexpr int kWidth = Bytes / sizeof(Acc<T>);
  if constexpr (std::is_same_v<T, Acc<T>>) {
    return load_bits<Vec<T, Bytes>>(p);
  } else if constexpr (std::is_same_v<T, bfloat_t>) {
#if DETPROBE_FMA
    if constexpr (Bytes == 32) {  // the compiler's conversion goes by way of halves
      const auto u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
      return cast<Vec<float, 32>>(_mm256_slli_epi32(u, 16));
    }
#endif
    const auto u = load_bits<Vec<uint16_t, kWidth * 2>>(p);
    return cast<Vec<float, Bytes>>(__builtin_convertvector(u, Vec<uint32_t, Bytes>) << 16);
  } else if constexpr (std::is_same_v<T, half_t>) {
#if DETPROBE_F16C
    if constexpr (Bytes == 16) return cast<Vec<float, 16>>(_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)p)));
    if constexpr (Bytes == 32) return cast<Vec<float, 32>>(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)));
#endif
    using U = Vec<uint32_t, Bytes>;
    const U bits = __builtin_convertvector(load_bits<Vec<uint16_t, kWidth * 2>>(p), U);
    const U sign = (bits & 0x8000u) << 16, rest = bits & 0x7FFFu;
    const U small = cast<U>(__builtin_convertvector(cast<Vec<int32_t, Bytes>>(rest), Vec<float, Bytes>) * 0x1p-24f);
    const U normal = (rest << 13) + 0x38000000u, special = 0x7F800000u | (rest & 0x3FFu) << 13;
    const U word = rest >= 0x7C00u ? special : (rest >= 0x400u ? normal : small);
    return cast<Vec<float, Bytes>>(sign | word);
  } else {
    using Same = Vec<T, kWidth* static_cast<int>(sizeof(T))>;
    using Wide = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
    return cast<Vec<uint64_t, Bytes>>(__builtin_convertvector(load_bits<Same>(p), Vec<Wide, Bytes>));
  }
}

template <class V, int... I>
DETPROBE_FN V evens(V x, V y, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(x, y, (2 * I)...);
}

// Of blocks of H lanes: x with its upper blocks replaced by y's lower ones, or y with its lower ones by x's upper ones.
template <int H, int Half, class V, int... I>
DETPROBE_FN V swapped(V x, V y, std::integer_sequence<int, I...>) {
  constexpr int W = sizeof...(I);
  if constexpr (Half == 0)
    return __builtin_shufflevector(x, y, (I & H ? W + (I ^ H) : I)...);
  else
    return __builtin_shufflevector(x, y, (I & H ? W + I : I + H)...);
}

// Rows and columns exchanged: as many vectors as one has lanes. H is half of that.
template <int H, class V>
DETPROBE_FN void transpose(V* v) {
  constexpr int W = LaneOf<V>::kCount;
  using Index = std::make_integer_sequence<int, W>;
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    if (i & H) continue;
    const V x = v[i], y = v[i + H];
    v[i] = swapped<H, 0>(x, y, Index{});
    v[i + H] = swapped<H, 1>(x, y, Index{});
  }
  if constexpr (H > 1) transpose<H / 2>(v);
}

// Of two vectors that hold rows of G lanes each, the first (0) or second (1) half of every row.
template <int G, int Half, class V, int... I>
DETPROBE_FN V halves(V x, V y, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(x, y, (I / (G / 2) * G + Half * (G / 2) + I % (G / 2))...);
}

// Folds as many vectors as one has lanes, each to one lane: lane i of the result is the fold of v[i].
template <int G, class Combine, class V>
DETPROBE_FN void fold_level(V* v) {
  using Index = std::make_integer_sequence<int, LaneOf<V>::kCount>;
#pragma GCC unroll 16
  for (int i = 0; i < G / 2; ++i) {
    const V x = v[2 * i], y = v[2 * i + 1];
    v[i] = Combine::combine(halves<G, 0>(x, y, Index{}), halves<G, 1>(x, y, Index{}));
  }
  if constexpr (G > 2) fold_level<G / 2, Combine>(v);
}
