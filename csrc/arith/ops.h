// The ops of csrc/README.md: sums over rows (passes), what is computed from each, and for some a result for every
// element. No include guard on purpose, see functions.h.
//
//   Passes          steps, in order; pass k may read numbers that pass k-1 has left in p
//   finish<K>       takes the sum s of pass K and the count n, and leaves numbers of the row in p
//   kMap, map       the result for an element
//   kResult         else: the number that is the result of the row
//   kIn, kOut       masks: numbers that come with the job; numbers that the op computes
//   kE, kX, kY, kP  what map reads
// Lines are evaluated as csrc/README.md writes them, one rounding each.

template <class... S>
struct List {
  static constexpr int kSize = sizeof...(S);
  template <int K>
  using At = std::tuple_element_t<K, std::tuple<S...>>;
};

// Two passes of which neither needs the other's numbers are one reading.
template <class... S>
constexpr bool independent() {
  return (std::is_same_v<S, AddY> || ...) && sizeof...(S) == 2;
}

template <int In, int Out, class... S>
struct Passes_ {
  using Passes = List<S...>;
  static constexpr int kIn = In, kOut = Out;
  static constexpr int kResult = -1;
  static constexpr bool kMap = false, kX = false, kY = false;
  static constexpr bool kKeep = false;      // the last pass keeps exp(x - p0), and map_kept uses it
  static constexpr bool kTogether = false;  // two passes, neither of which needs the other's numbers
  static constexpr int kE = 0, kP = 0;
  template <int K, class V>
  static DETPROBE_FN void finish(V, V, V*) {}
};

// A reduction: the result is p[R].
#define DETPROBE_REDUCTION(name, in, out, r, passes, ...)                  \
  struct name : Passes_<in, out, DETPROBE_ARGS passes> {                   \
    static constexpr int kResult = r;                                      \
    static constexpr bool kTogether = independent<DETPROBE_ARGS passes>(); \
    template <int K, class V>                                              \
    static DETPROBE_FN void finish(V s, V n, V* p) {                       \
      __VA_ARGS__                                                          \
    }                                                                      \
  }
#define DETPROBE_ARGS(...) __VA_ARGS__

DETPROBE_REDUCTION(Sum, 0, 1, 0, (AddX), p[0] = s;);
DETPROBE_REDUCTION(Dot, 0, 1, 0, (Product), p[0] = s;);
DETPROBE_REDUCTION(Mean, 0, 1, 0, (AddX), p[0] = div(s, n););
// p2: M
DETPROBE_REDUCTION(Var, 4, 3, 1, (AddX, Centered), p[K] = div(s, K == 0 ? n : p[2]););
DETPROBE_REDUCTION(Std, 4, 3, 1, (AddX, Centered), p[K] = K == 0 ? div(s, n) : root(div(s, p[2])););
DETPROBE_REDUCTION(Moments, 0, 3, 1, (AddX, Centered), p[K] = K == 0 ? div(s, n) : s;);
DETPROBE_REDUCTION(NormZero, 0, 1, 0, (NonZero), p[0] = s;);
DETPROBE_REDUCTION(NormOne, 0, 1, 0, (Magnitude), p[0] = s;);
DETPROBE_REDUCTION(NormTwo, 0, 1, 0, (Square), p[0] = root(s););
DETPROBE_REDUCTION(NormInf, 0, 1, 0, (LargestMagnitude), p[0] = s;);
DETPROBE_REDUCTION(NormMinusInf, 0, 1, 0, (SmallestMagnitude), p[0] = s;);
DETPROBE_REDUCTION(LogSumExp, 0, 3, 1, (LargestX, ExpOver),
                   if (K == 0) p[0] = magnitude(s) == splat<V>(HUGE_VAL) ? splat<V>(0) : settled(s);
                   else p[1] = add(log_of(s), p[0]););
// p0, p1: max and log of the sum; p2: of the log-probabilities, weighted.
DETPROBE_REDUCTION(CrossEntropy, 0, 3, 1, (LargestX, ExpShifted), p[K] = K == 0 ? settled(s) : log_of(s););
DETPROBE_REDUCTION(CrossEntropySmoothed, 0, 7, 2, (LargestX, ExpShifted, WeightedLog),
                   p[K] = K == 0 ? settled(s) : (K == 1 ? log_of(s) : s););
DETPROBE_REDUCTION(CrossEntropySoft, 12, 19, 4, (LargestX, ExpShifted, SoftTarget), if (K == 0) p[0] = settled(s);
                   if (K == 1) p[1] = log_of(s); if (K == 2) p[4] = -s;);
// x, y: input and gradient, rows over the batch. Gradients of weight, p0 = P(g, h), and bias, p1 = S(g).
DETPROBE_REDUCTION(LayerNormWeights, 0, 3, 0, (BatchDot, AddY), p[K] = s;);
DETPROBE_REDUCTION(RmsNormWeights, 0, 1, 0, (BatchRmsDot), p[0] = s;);
// Both gradients of batch_norm's weight and bias: p3 = S(g), p4 = P(g, h).
DETPROBE_REDUCTION(BatchNormWeights, 3, 24, 4, (AddY, NormalDot), p[3 + K] = s;);

#undef DETPROBE_REDUCTION
#undef DETPROBE_ARGS

template <int In, int Out, bool X, bool Y, int E, int P, class... S>
struct Map_ : Passes_<In, Out, S...> {
  static constexpr bool kMap = true, kX = X, kY = Y;
  static constexpr int kE = E, kP = P;
};

#define DETPROBE_FINISH     \
  template <int K, class V> \
  static DETPROBE_FN void finish([[maybe_unused]] V s, [[maybe_unused]] V n, V* p)
#define DETPROBE_MAP(...)                                                                           \
  template <class V>                                                                                \
  static DETPROBE_FN V map([[maybe_unused]] V x, [[maybe_unused]] V y, [[maybe_unused]] const V* e, \
                           [[maybe_unused]] const V* p) __VA_ARGS__

struct Softmax : Map_<0, 3, true, false, 0, 3, LargestX, ExpShifted> {
  static constexpr bool kKeep = true;
  DETPROBE_FINISH { p[K] = K == 0 ? settled(s) : s; }
  DETPROBE_MAP({ return div(exp_below(sub(x, p[0])), p[1]); })
  template <class V>
  static DETPROBE_FN V map_kept(V kept, const V* p) {
    return div(kept, p[1]);
  }
};
struct LogSoftmax : Map_<0, 3, true, false, 0, 3, LargestX, ExpShifted> {
  DETPROBE_FINISH { p[K] = K == 0 ? settled(s) : log_of(s); }
  DETPROBE_MAP({ return log_probability(x, p); })
};
// x: the result, y: its gradient.
struct SoftmaxBackward : Map_<0, 1, true, true, 0, 1, Product> {
  DETPROBE_FINISH { p[0] = s; }
  DETPROBE_MAP({ return mul(sub(y, p[0]), x); })
};
struct LogSoftmaxBackward : Map_<0, 1, true, true, 0, 1, AddY> {
  DETPROBE_FINISH { p[0] = s; }
  DETPROBE_MAP({ return sub(y, mul(exp_1(x), p[0])); })
};

// p2: g, p4: 2 / M, p3: the standard deviation
struct VarBackward : Map_<20, 3, true, false, 0, 3, AddX> {
  DETPROBE_FINISH {
    p[0] = div(s, n);
    p[1] = mul(p[2], p[4]);
  }
  DETPROBE_MAP({ return mul(p[1], sub(x, p[0])); })
};
struct StdBackward : Map_<28, 3, true, false, 0, 3, AddX> {
  DETPROBE_FINISH {
    const V zero = splat<V>(0), g = div(p[2], mul(splat<V>(2), p[3]));
    p[0] = div(s, n);
    p[1] = mul(p[3] == zero ? zero : g, p[4]);
  }
  DETPROBE_MAP({ return mul(p[1], sub(x, p[0])); })
};
// p0: g, p1: the norm
struct NormOneBackward : Map_<1, 0, true, false, 0, 1> {
  DETPROBE_MAP({ return mul(p[0], sign_of(x)); })
};
struct NormTwoBackward : Map_<3, 0, true, false, 0, 3> {
  DETPROBE_MAP({ return p[1] == splat<V>(0) ? splat<V>(0) : mul(div(x, p[1]), p[0]); })
};
struct NormInfBackward : Map_<3, 4, true, false, 0, 6, AtNorm> {
  DETPROBE_FINISH { p[2] = div(p[0], s); }
  DETPROBE_MAP({
    const V a = magnitude(x);
    return (a == p[1]) | (a != a) ? mul(p[2], sign_of(x)) : splat<V>(0);
  })
};
struct LogSumExpBackward : Map_<3, 0, true, false, 0, 3> {
  DETPROBE_MAP({ return mul(p[0], exp_1(sub(x, p[1]))); })
};

// p2: eps; e0, e1: weight and bias; leaves p0: mean, p1: 1 / standard deviation
struct LayerNorm : Map_<4, 3, true, false, 3, 3, AddX, Centered> {
  DETPROBE_FINISH { p[K] = K == 0 ? div(s, n) : div(splat<V>(1), root(add(div(s, n), p[2]))); }
  DETPROBE_MAP({ return add(mul(mul(sub(x, p[0]), p[1]), e[0]), e[1]); })
};
struct RmsNorm : Map_<4, 2, true, false, 1, 2, Square> {
  DETPROBE_FINISH { p[1] = div(splat<V>(1), root(add(div(s, n), p[2]))); }
  DETPROBE_MAP({ return mul(mul(x, p[1]), e[0]); })
};
struct LayerNormBackward : Map_<3, 12, true, true, 1, 15, WeightedSum, WeightedDot> {
  static constexpr bool kTogether = true;
  DETPROBE_FINISH { p[2 + K] = div(s, n); }
  DETPROBE_MAP({
    const V h = mul(sub(x, p[0]), p[1]);
    return mul(sub(sub(mul(y, e[0]), p[2]), mul(h, p[3])), p[1]);
  })
};
struct RmsNormBackward : Map_<2, 8, true, true, 1, 10, WeightedRmsDot> {
  DETPROBE_FINISH { p[3] = div(s, n); }
  DETPROBE_MAP({ return mul(sub(mul(y, e[0]), mul(mul(x, p[1]), p[3])), p[1]); })
};
// Rows are channels. p0: mean, p1: 1 / standard deviation, p2: weight, p3: bias
struct BatchNorm : Map_<15, 0, true, false, 0, 15> {
  DETPROBE_MAP({ return add(mul(mul(sub(x, p[0]), p[1]), p[2]), p[3]); })
};
// Leaves p3 = S(g), p4 = P(g, h)
struct BatchNormBackward : Map_<7, 248, true, true, 0, 227, AddY, NormalDot> {
  static constexpr bool kTogether = true;
  DETPROBE_FINISH {
    p[3 + K] = s;
    p[5 + K] = div(s, n);
    if (K == 1) p[7] = mul(p[2], p[1]);
  }
  DETPROBE_MAP({ return mul(sub(sub(y, p[5]), mul(mul(sub(x, p[0]), p[1]), p[6])), p[7]); })
};
struct BatchNormInferenceBackward : Map_<6, 0, false, true, 0, 6> {
  DETPROBE_MAP({ return mul(y, mul(p[2], p[1])); })
};
// p0: 1 - momentum, p1: momentum, p2: divisor
struct RunningAverage : Map_<7, 0, true, true, 0, 7> {
  DETPROBE_MAP({ return add(mul(x, p[0]), mul(div(y, p[2]), p[1])); })
};
// p0: count, p1: eps
struct InverseRoot : Map_<3, 0, true, false, 0, 3> {
  DETPROBE_MAP({ return div(splat<V>(1), root(add(div(x, p[0]), p[1]))); })
};

// Loss of a sample: x is the input at its class; p0: max, p1: log of the sum, p2: weight of the class, p3: 0 where the
// target is ignored; smoothed p4: sum of the weighted log-probabilities, p5: keep, p6: share.
struct CrossEntropyLoss : Map_<15, 0, true, false, 0, 15> {
  DETPROBE_MAP({ return p[3] == splat<V>(0) ? splat<V>(0) : -mul(p[2], log_probability(x, p)); })
};
struct CrossEntropySmoothedLoss : Map_<127, 0, true, false, 0, 127> {
  DETPROBE_MAP({
    const V a = mul(p[2], log_probability(x, p));
    return p[3] == splat<V>(0) ? splat<V>(0) : -add(mul(p[5], a), mul(p[6], p[4]));
  })
};
// p0: max, p1: log of the sum, p2: k, p3: 0 where the target is ignored, p4: the class, p5: h there; e1: 0, 1, 2, ..;
// e0: h elsewhere
struct CrossEntropyBackward : Map_<63, 0, true, false, 3, 63> {
  DETPROBE_MAP({
    const V h = e[1] == p[4] ? p[5] : e[0];
    const V v = mul(p[2], sub(mul(exp_1(log_probability(x, p)), p[5]), h));
    return p[3] == splat<V>(0) ? splat<V>(0) : v;
  })
};
struct CrossEntropySmoothedBackward : Map_<63, 64, true, false, 3, 127, HardTargetMass> {
  DETPROBE_FINISH { p[6] = s; }
  DETPROBE_MAP({
    const V h = e[1] == p[4] ? p[5] : e[0];
    const V v = mul(p[2], sub(mul(exp_1(log_probability(x, p)), p[6]), h));
    return p[3] == splat<V>(0) ? splat<V>(0) : v;
  })
};
// y: the target; p2, p3: keep and share; p4: k; e0: weights
struct CrossEntropySoftBackward : Map_<31, 32, true, true, 1, 63, SoftTargetMass> {
  DETPROBE_FINISH { p[5] = s; }
  DETPROBE_MAP({
    const V h = mul(e[0], add(mul(y, p[2]), p[3]));
    return mul(p[4], sub(mul(exp_1(log_probability(x, p)), p[5]), h));
  })
};
struct CrossEntropyTargetBackward : Map_<23, 0, true, false, 1, 23> {
  DETPROBE_MAP({ return mul(p[4], -mul(mul(e[0], log_probability(x, p)), p[2])); })
};

// Elementwise; p0: the divisor
struct Multiply : Map_<0, 0, true, true, 0, 0> {
  DETPROBE_MAP({ return mul(x, y); })
};
struct Divide : Map_<1, 0, true, false, 0, 1> {
  DETPROBE_MAP({ return div(x, p[0]); })
};
struct Exp : Map_<0, 0, true, false, 0, 0> {
  DETPROBE_MAP({ return exp_1(x); })
};
struct Log : Map_<0, 0, true, false, 0, 0> {
  DETPROBE_MAP({ return log_of(x); })
};

#undef DETPROBE_FINISH
#undef DETPROBE_MAP
