// DSUM-1 down columns that lie side by side: vectors go across the rows of the job. Included once per instruction set.

constexpr int64_t kFar = 1 << 16;  // bytes between elements of a row from which they are fetched ahead

// One block of one stretch of rows: where its k elements lie from the first row on.
struct Down {
  int64_t k;
  int64_t a[kBlock], b[kBlock];

  // The k elements from the `from`-th on.
  void fill(const Layout& layout, int64_t from) {
    const int32_t last = layout.dims - 1;
    const int64_t step_a = last < 0 ? 0 : layout.a[last], step_b = last < 0 ? 0 : layout.b[last];
    Walk walk(layout, from);
    for (int64_t r = 0; r < k;) {
      const int64_t run = std::min(k - r, walk.left());
      for (int64_t i = 0; i < run; ++i) {
        a[r + i] = walk.a + i * step_a;
        b[r + i] = walk.b + i * step_b;
      }
      walk.go(run);
      r += run;
    }
  }
};

// What a step reads: rows of the job from one on, elements of the row from one on.
template <class A>
struct ColumnInput {
  const A* x;
  const A* y;
  const A* e[kVectors];
  A e_constant[kVectors];
  const A* p[kParams];
  A p_constant[kParams];
};

// Folds s[lane][row], the first `present` of 32 lanes, `count` rows: an absent lane changes nothing, so it is left out.
template <class C, class A>
void fold_columns(A* s, int64_t present, int64_t count, A* out, int& which) {
  using V = V_<A>;
  for (int64_t h = kLanes / 2; h > 0; h /= 2) {
    if (present <= h) continue;
    for (int64_t i = 0; i < (present - h) * count; i += kWidth<A>) {
      store_bits(s + i, C::combine(load_bits<V>(s + i), load_bits<V>(s + h * count + i)));
    }
    present = h;
  }
  std::copy_n(s, count, out);
  ++which;
}

// Rows 0 .. count - 1, whole vectors of them: all 32 lanes of each, s[step][lane][row], then the fold into out[step].
// Elements are read in the order of memory; the lanes stay in the first cache.
template <class A, class... S>
__attribute__((noinline)) void column_tile(List<S...>, const ColumnInput<A>& in, const Down& down, int64_t c,
                                           int64_t count, A* s, A* const* out) {
  using V = V_<A>;
  constexpr int W = kWidth<A>;
  constexpr bool kX = (S::kX || ...), kY = (S::kY || ...);
  constexpr int kE = (S::kE | ...), kP = (S::kP | ...);
  const int64_t next_step = kLanes * count;
  const bool far = down.k > 1 && std::abs(down.a[1] - down.a[0]) * static_cast<int64_t>(sizeof(A)) >= kFar;
  // Rows r, r + 32, .. of one lane, R of them: the lane is loaded and stored once for all.
  const auto rows = [&](auto many, int64_t r, bool fresh) {
    constexpr int R = decltype(many)::value;
    const A *x[R], *y[R];
    V e[R][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const int64_t at = r + i * kLanes;
      x[i] = in.x + (kX ? down.a[at] + c : 0);
      y[i] = in.y + (kY ? down.b[at] + c : 0);
      if (kX && far && at + 1 < down.k) {  // too far away for the hardware to guess
        const char* next = reinterpret_cast<const char*>(in.x + down.a[at + 1] + c);
        for (int64_t byte = 0; byte < count * static_cast<int64_t>(sizeof(A)); byte += 64)
          __builtin_prefetch(next + byte);
      }
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        if (kE >> v & 1) e[i][v] = splat<V>(in.e[v] ? in.e[v][at] : in.e_constant[v]);
      }
    }
    A* lane = s + r % kLanes * count;
#pragma GCC unroll 2
    for (int64_t j = 0; j < count; j += W) {
      V p[kParams];
#pragma GCC unroll 8
      for (int q = 0; q < kParams; ++q) {
        if (kP >> q & 1) p[q] = in.p[q] ? load_bits<V>(in.p[q] + c + j) : splat<V>(in.p_constant[q]);
      }
      V sums[] = {splat<V>(S::Combine::template identity<A>())..., V{}};
      if (!fresh) {
        sums[0] = load_bits<V>(lane + j);
        if constexpr (sizeof...(S) == 2) sums[1] = load_bits<V>(lane + next_step + j);
      }
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
        const V at_x = kX ? load_bits<V>(x[i] + j) : V{}, at_y = kY ? load_bits<V>(y[i] + j) : V{};
        int which = 0;
        ((sums[which] = S::apply(sums[which], at_x, at_y, e[i], p), ++which), ...);
      }
      store_bits(lane + j, sums[0]);
      if constexpr (sizeof...(S) == 2) store_bits(lane + next_step + j, sums[1]);
    }
  };
  // As many at a time as there are; what is left of the last 32 one by one.
  int64_t r = 0;
  const auto steps_of = [&](auto many, int64_t lanes) {
    for (int64_t l = 0; l < lanes; ++l) rows(many, r + l, r == 0);
    r += decltype(many)::value * kLanes;
  };
  while (down.k - r >= 8 * kLanes) steps_of(std::integral_constant<int, 8>(), kLanes);
  while (down.k - r >= 2 * kLanes) steps_of(std::integral_constant<int, 2>(), kLanes);
  while (down.k > r) steps_of(std::integral_constant<int, 1>(), std::min<int64_t>(kLanes, down.k - r));
  const int64_t first = std::min<int64_t>(kLanes, down.k);
  int which = 0;
  (fold_columns<typename S::Combine>(s + next_step * which, first, count, out[which] + c, which), ...);
}

// Room of one thread: what a block looks like, and copies of rows that do not fill a vector or are not in acc.
template <class A>
struct ColumnScratch {
  static constexpr int64_t kRows = 256;  // at a time: the lanes of f32 fill a first cache
  Down down, copied;
  alignas(64) A lanes[kLanes * kRows];
  A out[2][kRows], p[kParams][kRows];
  std::vector<A> x, y;
};

// k elements of some rows, from row c on, in acc, `wide` apart; zeros lie beside them.
template <class A>
const A* copied(const Typed<A>& t, bool wanted, const void* p, int64_t c, const int64_t* at, int64_t k,
                const Layout& run, int64_t wide, std::vector<A>& to) {
  if (!wanted) return nullptr;
  to.assign(k * wide, A(0));
  for (int64_t r = 0; r < k; ++r) {
    const char* from = static_cast<const char*>(p) + (at[r] + c) * t.size;
    gather(t.type, from, false, Walk(run, 0), run.sizes[0], to.data() + r * wide);
  }
  return to.data();
}

// `count` rows of one block, from row c of where x and y point on; out[step][row].
template <class A, class... S>
void column_block(List<S...> steps, const Typed<A>& t, const ColumnInput<A>& in, const void* x, const void* y,
                  ColumnScratch<A>& scratch, int64_t count, A* const* out) {
  constexpr int W = kWidth<A>;
  constexpr int64_t kRows = ColumnScratch<A>::kRows / sizeof...(S);
  for (int64_t c = 0; c < count;) {
    if (t.is_native && count >= W) {
      // Rows that do not fill a vector are done with some that are done already.
      const int64_t whole = std::min<int64_t>(kRows, (count - c) / W * W);
      const int64_t from = whole > 0 ? c : count - W, size = whole > 0 ? whole : W;
      column_tile<A>(steps, in, scratch.down, from, size, scratch.lanes, out);
      c = from + size;
      continue;
    }
    // Rows that are fewer than a vector has lanes, or are not in acc, are copied.
    const int64_t part = std::min<int64_t>(kRows, count - c), wide = (part + W - 1) / W * W;
    const Layout run = run_of(part);
    ColumnInput<A> few = in;
    scratch.copied.k = scratch.down.k;
    for (int64_t r = 0; r < scratch.down.k; ++r) scratch.copied.a[r] = scratch.copied.b[r] = r * wide;
    few.x = copied(t, (S::kX || ...), x, c, scratch.down.a, scratch.down.k, run, wide, scratch.x);
    few.y = copied(t, (S::kY || ...), y, c, scratch.down.b, scratch.down.k, run, wide, scratch.y);
#pragma GCC unroll 8
    for (int q = 0; q < kParams; ++q) {
      if (!in.p[q]) continue;
      std::fill_n(scratch.p[q], wide, A(1));
      std::copy_n(in.p[q] + c, part, scratch.p[q]);
      few.p[q] = scratch.p[q];
    }
    A* const room[] = {scratch.out[0], scratch.out[1]};
    column_tile<A>(steps, few, scratch.copied, 0, wide, scratch.lanes, room);
    for (size_t q = 0; q < sizeof...(S); ++q) std::copy_n(room[q], part, out[q] + c);
    c += part;
  }
}

// sums[step][row][block] of a job whose rows lie side by side, in acc.
template <class A, class... S>
void column_pass(List<S...> steps, const Typed<A>& t, A* const* sums) {
  const Geometry& g = t.job.g;
  const int64_t wide = g.kept.sizes[g.kept.dims - 1], stretches = g.rows / wide, count = blocks_of(g.n);
  // The last tile takes what is left, so that none is narrow which could be wider.
  int64_t tile = std::min<int64_t>(512, wide);
  while (tile > 64 && stretches * count * (wide / tile) < 2 * at::get_num_threads()) tile /= 2;
  const int64_t tiles = wide / tile;
  const int64_t grain = std::max<int64_t>(1, kGrain / (tile * std::min<int64_t>(g.n, kBlock)));
  at::parallel_for(0, stretches * count * tiles, grain, [&](int64_t begin, int64_t end) {
    const FloatMode mode;
    const std::unique_ptr<ColumnScratch<A>> scratch(new ColumnScratch<A>);
    std::vector<A> room(count > 1 ? 2 * tile * sizeof...(S) : 0);
    int64_t known = -1;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t stretch = task / (count * tiles), block = task / tiles % count, c = task % tiles * tile;
      if (known != block) {
        known = block;
        scratch->down.k = std::min<int64_t>(kBlock, g.n - block * kBlock);
        scratch->down.fill(g.reduced, block * kBlock);
      }
      const int64_t row = stretch * wide + c, width = c / tile == tiles - 1 ? wide - c : tile;
      const Walk base(g.kept, row);
      const void *x = (S::kX || ...) ? t.x(base.a) : nullptr, *y = (S::kY || ...) ? t.y(base.b) : nullptr;
      ColumnInput<A> in{static_cast<const A*>(x), static_cast<const A*>(y), {}, {}, {}, {}};
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        in.e[v] = t.e[v] ? t.e[v] + block * kBlock : nullptr;
        in.e_constant[v] = t.e_constant[v];
      }
#pragma GCC unroll 8
      for (int q = 0; q < kParams; ++q) {
        in.p[q] = t.p[q] ? t.p[q] + row : nullptr;
        in.p_constant[q] = t.p_constant[q];
      }
      A* out[2];
      for (size_t q = 0; q < sizeof...(S); ++q) out[q] = count == 1 ? sums[q] + row : room.data() + q * 2 * tile;
      column_block(steps, t, in, x, y, *scratch, width, out);
      for (size_t q = 0; count > 1 && q < sizeof...(S); ++q) {
        for (int64_t i = 0; i < width; ++i) sums[q][(row + i) * count + block] = out[q][i];
      }
    }
  });
}
