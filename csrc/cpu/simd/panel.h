// Rows whose elements lie across memory's lines, as a full sum of a transposed matrix has them: a panel of whole lines
// is turned in the cache, then its blocks are what they always are. Included once per instruction set.

// Element (i, j) of the reduced dimensions, j the inner one, lies at i + j * apart.
struct Across {
  int64_t outer, inner, apart;
  int64_t panel;  // outer indices of a panel: whole lines, whole blocks
};

template <class A>
bool lies_across(const Typed<A>& t, Across& out) {
  const Layout& r = t.job.g.reduced;
  if (!t.is_native || r.dims != 2 || r.a[0] != 1 || r.sizes[0] < 16 || r.sizes[1] < 2) return false;
  out = {r.sizes[0], r.sizes[1], r.a[1], std::max<int64_t>(16, kBlock / std::gcd<int64_t>(r.sizes[1], kBlock))};
  while (out.panel < 64 && out.panel * out.inner <= 1 << 17) out.panel *= 2;
  return out.panel * out.inner <= 1 << 23;
}

// Blocks do not straddle outer indices: one row of whole blocks for each of them, which lie side by side.
template <class A>
bool in_columns(const Typed<A>& t, const Across& how, Job& job) {
  if (t.job.g.rows != 1 || how.inner % kBlock != 0) return false;
  job = t.job;
  job.g = Geometry();
  job.g.rows = how.outer;
  job.g.n = how.inner;
  job.g.kept = run_of(how.outer);
  job.g.reduced = run_of(how.inner);
  job.g.reduced.a[0] = job.g.reduced.b[0] = how.apart;
  return job.g.down();
}

// to[i][j] = from[i + j * apart], for `rows` i.
template <class A>
__attribute__((noinline)) void turn(const A* from, int64_t apart, int64_t rows, int64_t inner, A* to) {
  using V = V_<A>;
  constexpr int W = kWidth<A>;
  int64_t j = 0;
  constexpr int kLine = 64 / sizeof(A);  // whole lines are written: the rows of `to` are in each other's way in a cache
  for (; j + kLine <= inner; j += kLine) {
    int64_t i = 0;
    for (; i + W <= rows; i += W) {
#pragma GCC unroll 2
      for (int part = 0; part < kLine; part += W) {
        V v[W];
#pragma GCC unroll 8
        for (int l = 0; l < W; ++l) v[l] = load_bits<V>(from + i + (j + part + l) * apart);
        transpose<W / 2>(v);
#pragma GCC unroll 8
        for (int l = 0; l < W; ++l) store_bits(to + (i + l) * inner + j + part, v[l]);
      }
    }
    for (; i < rows; ++i) {
      for (int l = 0; l < kLine; ++l) to[i * inner + j + l] = from[i + (j + l) * apart];
    }
  }
  for (; j < inner; ++j) {
    for (int64_t i = 0; i < rows; ++i) to[i * inner + j] = from[i + j * apart];
  }
}

// sums[step][row][block], as block_pass.
template <class A, class... S>
void panel_pass(List<S...> steps, const Typed<A>& t, const Across& how, A* const* sums) {
  using V = V_<A>;
  constexpr int W = kWidth<A>;
  const Geometry& g = t.job.g;
  const int64_t count = blocks_of(g.n), panels = (how.outer + how.panel - 1) / how.panel;
  at::parallel_for(0, g.rows * panels, 1, [&](int64_t begin, int64_t end) {
    const FloatMode mode;
    const std::unique_ptr<A[]> room(new A[how.panel * how.inner]);
    Scratch<A> constants;
    constants.fill_constants(t, (S::kE | ...));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / panels, first = task % panels * how.panel;
      const int64_t rows = std::min(how.panel, how.outer - first), start = first * how.inner;
      const Walk walk(g.kept, row);
      turn(static_cast<const A*>(t.x(walk.a)) + first, how.apart, rows, how.inner, room.get());
      V p[kParams];
#pragma GCC unroll 8
      for (int q = 0; q < kParams; ++q) {
        if ((S::kP | ...) >> q & 1) p[q] = splat<V>(t.param(q, row));
      }
      const int64_t n = rows * how.inner;
      for_blocks(0, blocks_of(n), n, W, [&](int64_t b, int64_t some, int64_t k) {
        Stretch<A> r[W];
        for (int64_t j = 0; j < some; ++j) {
          const int64_t from = (b + j) * kBlock;
          r[j].x = room.get() + from;
          r[j].y = nullptr;
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) r[j].e[v] = t.e[v] ? t.e[v] + start + from : constants.e[v];
        }
        V folded[sizeof...(S)];
        fold_stretches<A>(steps, r, some, k, p, folded);
        for (size_t q = 0; q < sizeof...(S); ++q) {
          store_some(sums[q] + row * count + start / kBlock + b, folded[q], some);
        }
      });
    }
  });
}
