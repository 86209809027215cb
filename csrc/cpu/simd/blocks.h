// One pass over everything, block by block: what each block of each row sums to. Included once per instruction set.

// Scratch for as many stretches as are worked on together; one is enough where nothing is copied.
template <class A>
class ScratchGroup {
 public:
  ScratchGroup(const Typed<A>& t, int mask, bool copies)
      : many_(copies), room_(new Scratch<A>[copies ? kWidth<A> : 1]) {
    for (int64_t j = 0; j < (copies ? kWidth<A> : 1); ++j) room_[j].fill_constants(t, mask);
  }
  Scratch<A>& operator[](int64_t j) { return room_[many_ ? j : 0]; }
  bool copies() const { return many_; }

 private:
  bool many_;
  std::unique_ptr<Scratch<A>[]> room_;
};

// f(block, how many, their size) for blocks first .. last - 1 of n elements, at most `together` of one size at a time:
// as many as a vector has lanes, or one, where they are copied and the copy is to stay in the first cache.
template <class F>
DETPROBE_FN void for_blocks(int64_t first, int64_t last, int64_t n, int64_t together, const F& f) {
  const int64_t whole = std::min(last, n / kBlock);
  int64_t b = first;
  for (; b < whole; b += together) f(b, std::min<int64_t>(together, whole - b), static_cast<int64_t>(kBlock));
  if (whole < last) f(last - 1, 1, n - (last - 1) * kBlock);
}

// Whether fold_flat has a way: steps that read nothing but x, whose rows are runs of floats, or of every second one.
template <class A, class... S>
DETPROBE_FN bool folds_flat(List<S...>, const Typed<A>& t) {
  if constexpr (sizeof...(S) == 1 && (kEven<S> && ...)) {
    return t.flat_x || (std::is_floating_point_v<A> && (t.every == 1 || (t.every == 2 && t.is_native)));
  }
  return false;
}

// If so: BLK of `count` stretches of k elements of a row, or of rows, `step` elements of memory apart.
template <class A, class... S>
DETPROBE_FN void fold_flat(List<S...>, const Typed<A>& t, int64_t at, int64_t step, int64_t count, int64_t k,
                           V_<A>* out) {
  if constexpr (sizeof...(S) == 1 && (kEven<S> && ...)) {
    const auto fold = [&](auto run) { *out = fold_runs<S...>(run, step, count, k); };
    if (t.flat_x) return fold(Run<A, 1>{static_cast<const A*>(t.x(at))});
    if constexpr (std::is_floating_point_v<A>) {
      if (t.is_native) return fold(Run<A, 2>{static_cast<const A*>(t.x(at))});
    }
    if constexpr (std::is_same_v<A, float>) {
      if (t.type == Type::f16) return fold(Run<half_t, 1>{static_cast<const half_t*>(t.x(at))});
      fold(Run<bfloat_t, 1>{static_cast<const bfloat_t*>(t.x(at))});
    }
  }
}

// sums[step][row][block], in acc.
template <class A, class... S>
void block_pass(List<S...> steps, const Typed<A>& t, A* const* sums) {
  using V = V_<A>;
  constexpr int W = kWidth<A>;
  constexpr bool kX = (S::kX || ...), kY = (S::kY || ...);
  const Geometry& g = t.job.g;
  const int64_t count = blocks_of(g.n), grain = std::max<int64_t>(1, kGrain / std::min<int64_t>(kBlock, g.n));
  at::parallel_for(0, g.rows * count, grain, [&](int64_t begin, int64_t end) {
    const FloatMode mode;
    const bool flat = folds_flat(steps, t), copies = !flat && ((kX && !t.flat_x) || (kY && !t.flat_y));
    const std::unique_ptr<Scratch<A>> scratch(new Scratch<A>);
    scratch->fill_constants(t, (S::kE | ...));
    for (int64_t task = begin; task < end;) {
      const int64_t row = task / count, first = task % count, last = std::min(count, first + (end - task));
      V p[kParams];
#pragma GCC unroll 8
      for (int q = 0; q < kParams; ++q) {
        if ((S::kP | ...) >> q & 1) p[q] = splat<V>(t.param(q, row));
      }
      const Walk walk(g.kept, row);
      for_blocks(first, last, g.n, copies ? 1 : W, [&](int64_t b, int64_t some, int64_t k) {
        V folded[sizeof...(S)];
        if (flat) {
          fold_flat(steps, t, walk.a + b * kBlock * t.every, kBlock * t.every, some, k, folded);
        } else {
          Stretch<A> r[W];
          for (int64_t j = 0; j < some; ++j) {
            r[j] = scratch->stretch(t, kX, kY, {walk.a, walk.b}, (b + j) * kBlock, k);
          }
          fold_stretches<A>(steps, r, some, k, p, folded);
        }
        for (size_t q = 0; q < sizeof...(S); ++q) {
          store_some(sums[q] + task + (b - first), folded[q], some);
        }
      });
      task += last - first;
    }
  });
}
