// Steps: what an element adds to its lane. With the order of DSUM-1 around it, a step is a sum over rows. No include
// guard on purpose, see functions.h.
//
// apply(s, x, y, e, p): the lane's value s with element x (and y) added; e are the vectors along the row at this
// element, p the numbers of the row. kX, kY, kE, kP tell which of them it reads (masks for e and p). `Combine` joins
// lanes and blocks.

struct Plus {
  template <class A>
  static DETPROBE_FN A identity() {
    return static_cast<A>(-0.0);
  }
  template <class A>
  static DETPROBE_FN A empty() {
    return static_cast<A>(0);
  }
  template <class V>
  static DETPROBE_FN V combine(V s, V t) {
    return add(s, t);
  }
};

// The largest, or with Sign = -1 the smallest: NaN wins. Which of two zeros it is depends on the order; no result does,
// because `settle` makes it +0.0.
template <int Sign>
struct Extreme {
  template <class A>
  static DETPROBE_FN A identity() {
    return static_cast<A>(-Sign * HUGE_VAL);
  }
  template <class A>
  static DETPROBE_FN A empty() {
    return identity<A>();
  }
  template <class V>
  static DETPROBE_FN V combine(V s, V x) {
    return (Sign > 0 ? x > s : x < s) | (x != x) ? x : s;
  }
};

template <bool X, bool Y, int E, int P, class C = Plus>
struct Step {
  static constexpr bool kX = X, kY = Y;
  static constexpr int kE = E, kP = P;
  using Combine = C;
};

#define DETPROBE_STEP(name, x_, y_, e_, p_, ...)                                  \
  struct name : Step<x_, y_, e_, p_> {                                            \
    template <class V>                                                            \
    static DETPROBE_FN V apply(V s, V x, V y, const V* e, const V* p) __VA_ARGS__ \
  }

DETPROBE_STEP(AddX, true, false, 0, 0, { return add(s, x); });
DETPROBE_STEP(AddY, false, true, 0, 0, { return add(s, y); });
DETPROBE_STEP(Product, true, true, 0, 0, { return fused(x, y, s); });
DETPROBE_STEP(Square, true, false, 0, 0, { return fused(x, x, s); });
DETPROBE_STEP(Magnitude, true, false, 0, 0, { return add(s, magnitude(x)); });
DETPROBE_STEP(NonZero, true, false, 0, 0, { return add(s, x != splat<V>(0) ? splat<V>(1) : splat<V>(0)); });
// p0: mean
DETPROBE_STEP(Centered, true, false, 0, 1, {
  const V d = sub(x, p[0]);
  return fused(d, d, s);
});
// p0: max. Its term is kept where the map wants it again.
DETPROBE_STEP(ExpShifted, true, false, 0, 1, { return add(s, exp_below(sub(x, p[0]))); });
// p0: max, or +0.0 where that is infinite, so that the row may have elements above it.
DETPROBE_STEP(ExpOver, true, false, 0, 1, { return add(s, exp_1(sub(x, p[0]))); });
// p1: the norm
DETPROBE_STEP(AtNorm, true, false, 0, 2, {
  const V a = magnitude(x);
  return add(s, (a == p[1]) | (a != a) ? splat<V>(1) : splat<V>(0));
});

// Gradients of normalisations: y is g. p0: mean, p1: 1 / standard deviation, e0: weight.
DETPROBE_STEP(WeightedSum, false, true, 1, 0, { return add(s, mul(y, e[0])); });
DETPROBE_STEP(WeightedDot, true, true, 1, 3, { return fused(mul(y, e[0]), mul(sub(x, p[0]), p[1]), s); });
DETPROBE_STEP(WeightedRmsDot, true, true, 1, 2, { return fused(mul(y, e[0]), mul(x, p[1]), s); });
DETPROBE_STEP(NormalDot, true, true, 0, 3, { return fused(y, mul(sub(x, p[0]), p[1]), s); });
// The same over a batch: e0: means, e1: 1 / standard deviations.
DETPROBE_STEP(BatchDot, true, true, 3, 0, { return fused(y, mul(sub(x, e[0]), e[1]), s); });
DETPROBE_STEP(BatchRmsDot, true, true, 2, 0, { return fused(y, mul(x, e[1]), s); });

// cross_entropy. p0: max, p1: log of the sum; e0: class weights; p2, p3: keep and share.
template <class V>
DETPROBE_FN V log_probability(V x, const V* p) {
  return sub(sub(x, p[0]), p[1]);
}
DETPROBE_STEP(WeightedLog, true, false, 1, 3, { return fused(e[0], log_probability(x, p), s); });
DETPROBE_STEP(SoftTarget, true, true, 1, 15,
              { return fused(mul(e[0], log_probability(x, p)), add(mul(y, p[2]), p[3]), s); });
DETPROBE_STEP(SoftTargetMass, false, true, 1, 12, { return add(s, mul(e[0], add(mul(y, p[2]), p[3]))); });
// e1: 0, 1, 2, ..; p4: the class; p5: what it gets; e0: what the others get.
DETPROBE_STEP(HardTargetMass, false, false, 3, 48, { return add(s, e[1] == p[4] ? p[5] : e[0]); });

#undef DETPROBE_STEP

// NaN are passed over: what they are part of becomes NaN by the sum that follows.
struct Largest : Extreme<1> {
  template <class V>
  static DETPROBE_FN V combine(V s, V x) {
    return larger_of(x, s);
  }
};
struct LargestX : Step<true, false, 0, 0, Largest> {
  template <class V>
  static DETPROBE_FN V apply(V s, V x, V, const V*, const V*) {
    return Combine::combine(s, x);
  }
};
struct LargestMagnitude : Step<true, false, 0, 0, Extreme<1>> {
  template <class V>
  static DETPROBE_FN V apply(V s, V x, V, const V*, const V*) {
    return Combine::combine(s, magnitude(x));
  }
};
struct SmallestMagnitude : Step<true, false, 0, 0, Extreme<-1>> {
  template <class V>
  static DETPROBE_FN V apply(V s, V x, V, const V*, const V*) {
    return Combine::combine(s, magnitude(x));
  }
};
