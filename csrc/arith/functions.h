// EXP-1, LOG-1 and small functions of the contract, for whatever is a number here: one float on a device, a vector of
// them on a CPU. No include guard on purpose: each context includes this once, after it has defined
//   DETPROBE_FN      what stands before a function
//   Scalar<V>        float or double, one lane of V;   Int<V>, Word<V>: signed and unsigned integers of its size
//   add, sub, mul, div, root, fused    one rounding each
//   splat<V>(a), cast<To>(from), each_lane(v, f)
//   larger_of(x, y)  x > y ? x : y, so y where one is NaN
// Comparisons give what `?:` selects lanes by.

template <class A>
struct ExpTable;

template <>
struct ExpTable<float> {
  static constexpr float lo = -104.0f, hi = 89.0f, l = 0x1.715476p+0f, magic = 0x1.8p+23f;
  static constexpr float c1 = 0x1.62e4p-1f, c2 = 0x1.7f7d1cp-20f;
  static constexpr int fraction = 23, bias = 127, degree = 4;
  static DETPROBE_FN float c(int j) {
    constexpr float table[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558fp-5f, 0x1.123a1p-7f, 0x1.6a2612p-10f};
    return table[j];
  }
};

template <>
struct ExpTable<double> {
  static constexpr double lo = -746.0, hi = 710.0, l = 0x1.71547652b82fep+0, magic = 0x1.8p+52;
  static constexpr double c1 = 0x1.62e42fefa4p-1, c2 = -0x1.8432a1b0e2634p-43;
  static constexpr int fraction = 52, bias = 1023, degree = 9;
  static DETPROBE_FN double c(int j) {
    constexpr double table[] = {0x1.000000000000ap-1,  0x1.55555555554fep-3,  0x1.5555555550854p-5,
                                0x1.1111111126a2ep-7,  0x1.6c16c18436645p-10, 0x1.a01a01309a454p-13,
                                0x1.a01999e7b13e2p-16, 0x1.71df170af496ep-19, 0x1.28ad95ecdadedp-22,
                                0x1.ad9641515b7bap-26};
    return table[j];
  }
};

// EXP-1 of numbers that are not above its `hi`.
template <class V>
DETPROBE_FN V exp_below(V x) {
  using T = ExpTable<Scalar<V>>;
  const V magic = splat<V>(T::magic);
  x = larger_of(splat<V>(T::lo), x);
  const V t = add(mul(x, splat<V>(T::l)), magic), k = sub(t, magic);
  const Word<V> i = cast<Word<V>>(t) - cast<Word<V>>(magic);
  const V r = sub(sub(x, mul(k, splat<V>(T::c1))), mul(k, splat<V>(T::c2)));
  V q = splat<V>(T::c(T::degree));
#ifdef __CUDACC__
#pragma unroll
#else
#pragma GCC unroll 16
#endif
  for (int j = T::degree - 1; j >= 0; --j) q = add(mul(q, r), splat<V>(T::c(j)));
  const V p = add(add(mul(mul(r, r), q), r), splat<V>(1));
  const Word<V> half = cast<Word<V>>(cast<Int<V>>(i) >> 1);
  return mul(mul(p, cast<V>((half + T::bias) << T::fraction)), cast<V>((i - half + T::bias) << T::fraction));
}

template <class V>
DETPROBE_FN V exp_1(V x) {
  const V hi = splat<V>(ExpTable<Scalar<V>>::hi);
  return exp_below(x > hi ? hi : x);
}

DETPROBE_FN double log_1(double x) {
  if (!(x > 0)) return x == 0 ? -HUGE_VAL : NAN;
  if (x > 0x1.fffffffffffffp+1023) return x;
  int64_t k = 0;
  if (x < 0x1p-1022) {
    x = mul(x, 0x1p54);
    k = -54;
  }
  const int64_t u = cast<int64_t>(x), e = (u - 0x3FE6A09E667F3BCDll) >> 52;
  const double m = cast<double>(static_cast<uint64_t>(u) - (static_cast<uint64_t>(e) << 52));
  const double f = sub(m, 1.0), s = div(f, add(f, 2.0)), z = mul(s, s), scale = static_cast<double>(k + e);
  constexpr double table[] = {0x1.5555555555592p-1, 0x1.999999997fd5bp-2, 0x1.24924941f87eep-2, 0x1.c71c52017d00fp-3,
                              0x1.746640e19d49fp-3, 0x1.39a17f75e9724p-3, 0x1.2f0805012e8d6p-3};
  double r = table[6];
  for (int j = 5; j >= 0; --j) r = add(mul(r, z), table[j]);
  r = mul(r, z);
  const double low = sub(mul(s, sub(f, r)), mul(scale, ExpTable<double>::c2));
  return sub(mul(scale, ExpTable<double>::c1), sub(low, f));
}

// Of an f32 by way of f64. Rare (one for each row), so lane by lane.
template <class V>
DETPROBE_FN V log_of(V x) {
  return each_lane(x, [](Scalar<V> lane) { return static_cast<Scalar<V>>(log_1(static_cast<double>(lane))); });
}

template <class V>
DETPROBE_FN V magnitude(V x) {
  return cast<V>(cast<Word<V>>(x) & (~Word<V>{} >> 1));
}

// +1, -1, or +0 for zeros; NaN stays.
template <class V>
DETPROBE_FN V sign_of(V x) {
  const V zero = splat<V>(0);
  return x > zero ? splat<V>(1) : (x < zero ? splat<V>(-1) : (x == zero ? zero : x));
}

// A NaN becomes the canonical one; integers have none.
template <class V>
DETPROBE_FN V canonical(V x) {
  if constexpr (std::is_integral_v<Scalar<V>>) {
    return x;
  } else {
    constexpr auto quiet = sizeof(Scalar<V>) == 4 ? 0x7FC00000ull : 0x7FF8000000000000ull;
    return x == x ? x : cast<V>(Word<V>{} + static_cast<Scalar<Word<V>>>(quiet));
  }
}

// A largest or smallest element whose zeros are all +0.0.
template <class V>
DETPROBE_FN V settled(V x) {
  return add(x, splat<V>(0));
}
