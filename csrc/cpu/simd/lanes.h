// BLK of DSUM-1 in vectors, over elements in acc that lie side by side. Included once per instruction set, like vec.h.

// 32 bytes at most: wider loads measured slower from memory, and no faster in the cache.
constexpr int kBytes = DETPROBE_BYTES < 32 ? DETPROBE_BYTES : 32;

template <class A>
using V_ = Vec<A, kBytes>;
template <class A>
constexpr int kWidth = kBytes / sizeof(A);

// A stretch of a row, at most a block: the elements of x and y, and those of the vectors that lie along the row.
template <class A>
struct Stretch {
  const A* x;
  const A* y;
  const A* e[kVectors];
};

template <class A>
struct Lanes {
  static constexpr int kVecs = kLanes / kWidth<A>;
  V_<A> v[kVecs];
};

// What the elements i .. of a stretch, which are loaded once, make of the lanes of one step or of several.
template <class A, class Load, class... S>
DETPROBE_FN void stepped(List<S...>, V_<A>* const* s, const Stretch<A>& r, int64_t i, const V_<A>* p,
                         const Load& load_at) {
  using V = V_<A>;
  const V x = (S::kX || ...) ? load_at(r.x + i) : V{}, y = (S::kY || ...) ? load_at(r.y + i) : V{};
  V e[kVectors];
#pragma GCC unroll 8
  for (int k = 0; k < kVectors; ++k) {
    if ((S::kE | ...) >> k & 1) e[k] = load_at(r.e[k] + i);
  }
  int which = 0;
  ((*s[which] = S::apply(*s[which], x, y, e, p), ++which), ...);
}

// The 32 lanes of a block of k elements, for each step.
template <class A, class... S>
DETPROBE_FN void block_lanes(List<S...> steps, const Stretch<A>& r, int64_t k, const V_<A>* p, Lanes<A>* s) {
  using V = V_<A>;
  constexpr int W = kWidth<A>, kVecs = Lanes<A>::kVecs, kSteps = sizeof...(S);
  const A identities[] = {S::Combine::template identity<A>()...};
#pragma GCC unroll 2
  for (int q = 0; q < kSteps; ++q) {
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) s[q].v[j] = splat<V>(identities[q]);
  }
  const auto whole = [](const A* at) { return load_bits<V>(at); };
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) {
      V* const lanes[] = {&s[0].v[j], &s[kSteps - 1].v[j]};
      stepped<A>(steps, lanes, r, i + j * W, p, whole);
    }
  }
  if (i < k) {  // the absent lanes stay as they are
    using I = Scalar<Int<V>>;
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) {
      const int64_t left = k - i - j * W;
      if (left <= 0) break;
      const auto some = [left](const A* at) { return load_some<V>(at, left); };
      V next[] = {s[0].v[j], s[kSteps - 1].v[j]};
      V* const lanes[] = {&next[0], &next[kSteps - 1]};
      stepped<A>(steps, lanes, r, i + j * W, p, some);
      const auto present = lane_numbers<Int<V>>() < static_cast<I>(left > W ? W : left);
#pragma GCC unroll 2
      for (int q = 0; q < kSteps; ++q) s[q].v[j] = present ? next[q] : s[q].v[j];
    }
  }
}

// The lanes above a vector's width, folded.
template <class C, class A>
DETPROBE_FN V_<A> fold_vectors(Lanes<A> s) {
#pragma GCC unroll 4
  for (int h = Lanes<A>::kVecs / 2; h > 0; h /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < h; ++i) s.v[i] = C::combine(s.v[i], s.v[i + h]);
  }
  return s.v[0];
}

// The rest of the fold.
template <class C, class V>
DETPROBE_FN Scalar<V> fold_lanes(V v) {
  constexpr int W = LaneOf<V>::kCount;
  Scalar<V> x[W];
  store_bits(x, v);
#pragma GCC unroll 4
  for (int h = W / 2; h > 0; h /= 2) {
#pragma GCC unroll 4
    for (int l = 0; l < h; ++l) x[l] = C::combine(x[l], x[l + h]);
  }
  return x[0];
}

// The same for `count` vectors, at most as many as one has lanes: lane j is what v[j] folds to.
template <class C, class V>
DETPROBE_FN V fold_each(V* v, int64_t count) {
  if (count > LaneOf<V>::kCount / 2) {
    fold_level<LaneOf<V>::kCount, C>(v);
    return v[0];
  }
  V out{};
  for (int64_t j = 0; j < count; ++j) out[j] = fold_lanes<C>(v[j]);
  return out;
}

// One number of a row, of those whose numbers of rows are the lanes of p, in all lanes.
template <int Mask, class V>
DETPROBE_FN void numbers_of_row(const V* p, int64_t j, V* mine) {
#pragma GCC unroll 8
  for (int q = 0; q < kParams; ++q) {
    if (Mask >> q & 1) mine[q] = splat<V>(p[q][j]);
  }
}

// BLK of `count` stretches of k elements each, at most as many as a vector has lanes: lane j is that of stretch j,
// whose numbers are lane j of p. One result for each step.
template <class A, class... S>
__attribute__((noinline)) void fold_stretches(List<S...> steps, const Stretch<A>* r, int64_t count, int64_t k,
                                              const V_<A>* p, V_<A>* out) {
  using V = V_<A>;
  constexpr int kSteps = sizeof...(S);
  V v[kSteps][kWidth<A>];
  for (int64_t j = 0; j < count; ++j) {
    V mine[kParams];
    numbers_of_row<(S::kP | ...)>(p, j, mine);
    Lanes<A> s[kSteps];
    block_lanes<A>(steps, r[j], k, mine, s);
    int which = 0;
    ((v[which][j] = fold_vectors<typename S::Combine>(s[which]), ++which), ...);
  }
  int which = 0;
  ((out[which] = fold_each<typename S::Combine>(v[which], count), ++which), ...);
}

// A run of elements of type T, or of every second one, as vectors of acc.
template <class T, int Every>
struct Run {
  using A = Acc<T>;
  using V = V_<A>;
  static constexpr int W = kWidth<A>;
  static constexpr int kEvery = Every;
  static constexpr bool kInPlace = Every == 1 && std::is_same_v<T, A>;
  const T* at;

  DETPROBE_FN V load_whole(int64_t i) const {
    if constexpr (Every == 1) return load<kBytes>(at + i);
    const V x = load<kBytes>(at + 2 * i), y = load<kBytes>(at + 2 * i + W);
    return evens(x, y, std::make_integer_sequence<int, W>{});
  }
  // The first `count` lanes, less than all or all but the last; reads nothing behind them.
  DETPROBE_FN V load_part(int64_t i, int64_t count) const {
    if constexpr (kInPlace) return load_some<V>(at + i, count);
    T lanes[W] = {};
    for (int64_t l = 0; l < std::min<int64_t>(W, count); ++l) lanes[l] = at[Every * (i + l)];
    return load<kBytes>(lanes);
  }
};

// The 32 lanes of a block of k elements of such a run, for a step that reads nothing else.
template <class S, int Known, class R>
DETPROBE_FN Lanes<typename R::A> run_lanes(const R& x, int64_t size) {
  using A = typename R::A;
  using V = typename R::V;
  constexpr int W = kWidth<A>, kVecs = Lanes<A>::kVecs;
  const int64_t k = Known ? Known : size;
  const V* none = nullptr;
  Lanes<A> s;
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) s.v[j] = splat<V>(S::Combine::template identity<A>());
  int64_t i = 0;
  // Every second: the last element may be the last one that there is.
  for (; i + kLanes <= k - (R::kEvery - 1); i += kLanes) {
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) s.v[j] = S::apply(s.v[j], x.load_whole(i + j * W), V{}, none, none);
  }
  if (i < k) {  // the absent lanes stay as they are
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) {
      const int64_t left = k - i - j * W;
      if (left <= 0) break;
      const V next = S::apply(s.v[j], x.load_part(i + j * W, left), V{}, none, none);
      s.v[j] = lane_numbers<Int<V>>() < static_cast<Scalar<Int<V>>>(left > W ? W : left) ? next : s.v[j];
    }
  }
  return s;
}

// BLK of `count` such runs, `step` apart in memory. A length that the compiler knows makes a short row a handful of
// instructions.
template <class S, int Known, class R>
DETPROBE_FN typename R::V fold_even(R x, int64_t step, int64_t count, int64_t k) {
  typename R::V v[R::W];
  for (int64_t j = 0; j < count; ++j, x.at += step) v[j] = fold_vectors<typename S::Combine>(run_lanes<S, Known>(x, k));
  return fold_each<typename S::Combine>(v, count);
}
template <class S, class R>
__attribute__((noinline)) typename R::V fold_runs(R x, int64_t step, int64_t count, int64_t k) {
  if constexpr (R::kInPlace) {
    switch (k) {
      case 32: return fold_even<S, 32>(x, step, count, k);
      case 64: return fold_even<S, 64>(x, step, count, k);
      case 128: return fold_even<S, 128>(x, step, count, k);
      case kBlock: return fold_even<S, kBlock>(x, step, count, k);
      default: break;
    }
  }
  return fold_even<S, 0>(x, step, count, k);
}
// Steps for which there is such a way.
template <class S>
constexpr bool kEven = std::is_same_v<S, AddX> || std::is_same_v<S, Square>;

// The same of exp(x - p0), whose values are kept.
template <class A>
__attribute__((noinline)) V_<A> fold_kept_exp(const Stretch<A>* r, A* const* kept, int64_t count, int64_t k,
                                              const V_<A>* p) {
  using V = V_<A>;
  constexpr int W = kWidth<A>;
  V v[W];
  for (int64_t j = 0; j < count; ++j) {
    const V shift = splat<V>(p[0][j]);
    Lanes<A> s;
    for (V& lane : s.v) lane = splat<V>(-0.0);
    int64_t i = 0;
    for (; i + kLanes <= k; i += kLanes) {
#pragma GCC unroll 16
      for (int l = 0; l < Lanes<A>::kVecs; ++l) {
        const V e = exp_below(sub(load_bits<V>(r[j].x + i + l * W), shift));
        store_bits(kept[j] + i + l * W, e);
        s.v[l] = add(s.v[l], e);
      }
    }
    for (int l = 0; i < k; ++l, i += W) {
      const int64_t left = std::min<int64_t>(W, k - i);
      const V e = exp_below(sub(load_some<V>(r[j].x + i, left), shift));
      store_some(kept[j] + i, e, left);
      s.v[l] = lane_numbers<Int<V>>() < static_cast<Scalar<Int<V>>>(left) ? add(s.v[l], e) : s.v[l];
    }
    v[j] = fold_vectors<Plus>(s);
  }
  return fold_each<Plus>(v, count);
}

// S of partial results that lie side by side; y is used up.
template <class C>
struct Upper : Step<true, false, 0, 0, C> {
  template <class V>
  static DETPROBE_FN V apply(V s, V x, V, const V*, const V*) {
    return C::combine(s, x);
  }
};
template <class C, class A>
A sum_partials(A* y, int64_t n) {
  for (;;) {
    const int64_t count = blocks_of(n);
    for (int64_t b = 0; b < count; ++b) {
      const int64_t k = std::min<int64_t>(kBlock, n - b * kBlock);
      const Stretch<A> r{y + b * kBlock, nullptr, {}};
      V_<A> sum;
      fold_stretches<A>(List<Upper<C>>(), &r, 1, k, nullptr, &sum);
      y[b] = sum[0];
    }
    if (count <= 1) return y[0];
    n = count;
  }
}

// Elements to acc, and back with one rounding; NaNs become canonical.
template <class T>
void widen_run(const T* from, int64_t n, Acc<T>* to) {
  constexpr int W = kWidth<Acc<T>>;
  int64_t i = 0;
  for (; i + W <= n; i += W) store_bits(to + i, load<kBytes>(from + i));
  for (; i < n; ++i) to[i] = static_cast<Acc<T>>(widen(from[i]));
}

template <class T>
void narrow_run(const Acc<T>* from, int64_t n, T* to) {
  int64_t i = 0;
#if DETPROBE_F16C
  if constexpr (std::is_same_v<T, half_t>) {
    for (; i + 8 <= n; i += 8) {
      const auto bits = (Vec<uint16_t, 16>)_mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
      store_bits(to + i, (bits & 0x7FFF) > 0x7C00 ? Vec<uint16_t, 16>{} + uint16_t(0x7E00) : bits);
    }
  }
#endif
#if DETPROBE_FMA
  if constexpr (std::is_same_v<T, bfloat_t>) {
    for (; i + 8 <= n; i += 8) {
      const auto u = load_bits<Vec<uint32_t, 32>>(from + i);
      const auto rounded = (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
      const auto bits = (__m256i)((u & 0x7FFFFFFFu) > 0x7F800000u ? Vec<uint32_t, 32>{} + 0x7FC0u : rounded);
      const __m128i low = _mm256_castsi256_si128(bits), high = _mm256_extracti128_si256(bits, 1);
      store_bits(to + i, _mm_packus_epi32(low, high));
    }
  }
#endif
  if constexpr (std::is_same_v<T, bfloat_t>) {
    for (; i + 4 <= n; i += 4) {
      const auto u = load_bits<Vec<uint32_t, 16>>(from + i);
      const auto rounded = (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
      const auto bits = (u & 0x7FFFFFFFu) > 0x7F800000u ? Vec<uint32_t, 16>{} + 0x7FC0u : rounded;
      store_bits(to + i, __builtin_convertvector(bits, Vec<uint16_t, 8>));
    }
  }
  if constexpr (std::is_same_v<T, Acc<T>> && !std::is_same_v<T, uint64_t>) {
    constexpr int W = kWidth<T>;
    for (; i + W <= n; i += W) store_bits(to + i, canonical(load_bits<V_<T>>(from + i)));
  }
  for (; i < n; ++i) to[i] = narrow<T>(from[i]);
}
