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

// The short way where a step has one and x allows it: `count` stretches of x, `step` elements apart.
template <class A, class... S>
DETPROBE_FN bool fold_flat(List<S...>, const Typed<A>& t, int64_t at, int64_t step, int64_t count, int64_t k,
                           V_<A>* out) {
  using First = typename List<S...>::template At<0>;
  if constexpr (sizeof...(S) == 1 && kEven<First>) {
    if (t.flat_x) {
      out[0] = fold_rows<First>(static_cast<const A*>(t.x(at)), step, count, k);
      return true;
    }
  }
  return false;
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
    const bool copies = (kX && !t.flat_x) || (kY && !t.flat_y);
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
        if (!fold_flat(steps, t, walk.a + b * kBlock, kBlock, some, k, folded)) {
          Stretch<A> r[W];
          for (int64_t j = 0; j < some; ++j) {
            r[j] = scratch->stretch(t, kX, kY, {walk.a, walk.b}, (b + j) * kBlock, k);
          }
          fold_stretches<A>(steps, r, some, k, p, folded);
        }
        for (size_t q = 0; q < sizeof...(S); ++q) {
          std::memcpy(sums[q] + task + (b - first), &folded[q], some * sizeof(A));
        }
      });
      task += last - first;
    }
  });
}
