// Results for every element. Included once per instruction set, like vec.h.

// k elements of a row: numbers of the row are the same for all of them, vectors lie along it.
template <class O, class A>
__attribute__((noinline)) void map_along(const Stretch<A>& r, int64_t k, const V_<A>* p, A* to) {
  using V = V_<A>;
  V mine[kParams];  // in registers: a store to `to` might change p, for all the compiler knows
#pragma GCC unroll 8
  for (int q = 0; q < kParams; ++q) {
    if (O::kP >> q & 1) mine[q] = p[q];
  }
  const auto at = [&](int64_t i, const auto& load_at) {
    const V x = O::kX ? load_at(r.x + i) : V{}, y = O::kY ? load_at(r.y + i) : V{};
    V e[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      if (O::kE >> v & 1) e[v] = load_at(r.e[v] + i);
    }
    return canonical(O::map(x, y, e, mine));
  };
  int64_t i = 0;
  for (; i + kWidth<A> <= k; i += kWidth<A>) {
    store_bits(to + i, at(i, [](const A* from) { return load_bits<V>(from); }));
  }
  if (i < k) {
    const V last = at(i, [&](const A* from) { return load_some<V>(from, k - i); });
    store_some(to + i, last, k - i);
  }
}

// Element `i` of k rows that lie side by side: vectors along the row are the same for all of them.
template <class O, class A>
__attribute__((noinline)) void map_across(const Typed<A>& t, const A* x, const A* y, int64_t i, int64_t row, int64_t k,
                                          A* to) {
  using V = V_<A>;
  V e[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    if (O::kE >> v & 1) e[v] = splat<V>(t.e[v] ? t.e[v][i] : t.e_constant[v]);
  }
  const auto at = [&](int64_t c, const auto& load_at) {
    V p[kParams];
#pragma GCC unroll 8
    for (int q = 0; q < kParams; ++q) {
      if (O::kP >> q & 1) p[q] = t.p[q] ? load_at(t.p[q] + row + c) : splat<V>(t.p_constant[q]);
    }
    return canonical(O::map(O::kX ? load_at(x + c) : V{}, O::kY ? load_at(y + c) : V{}, e, p));
  };
  int64_t c = 0;
  for (; c + kWidth<A> <= k; c += kWidth<A>) {
    store_bits(to + c, at(c, [](const A* from) { return load_bits<V>(from); }));
  }
  if (c < k) {
    const V last = at(c, [&](const A* from) { return load_some<V>(from, k - c); });
    store_some(to + c, last, k - c);
  }
}

// Elements from..from + k of one row, to where they belong.
template <class O, class A>
void map_stretch(const Typed<A>& t, Scratch<A>& scratch, const Place& base, int64_t from, int64_t k, const V_<A>* p) {
  if (t.flat_x && (!O::kY || t.flat_y)) {
    return map_along<O>(scratch.stretch(t, O::kX, O::kY, base, from, k), k, p, static_cast<A*>(t.out(base.a)) + from);
  }
  const Layout& reduced = t.job.g.reduced;
  if (t.is_native && last_step(reduced, false) == 1 && (!O::kY || last_step(reduced, true) == 1)) {
    Walk walk(reduced, from);  // run by run, in place
    for (int64_t done = 0; done < k;) {
      const int64_t size = std::min(k - done, walk.left());
      const int64_t a = base.a + walk.a;
      Stretch<A> r{static_cast<const A*>(t.x(a)), static_cast<const A*>(O::kY ? t.y(base.b + walk.b) : nullptr), {}};
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) r.e[v] = t.e[v] ? t.e[v] + from + done : scratch.e[v];
      map_along<O>(r, size, p, static_cast<A*>(t.out(a)));
      walk.go(size);
      done += size;
    }
    return;
  }
  const Stretch<A> r = scratch.stretch(t, O::kX, O::kY, base, from, k);
  const Walk walk(reduced, from);
  map_along<O>(r, k, p, scratch.out);
  scatter(t.type, scratch.out, false, walk, k, t.out(base.a));
}

// All elements, once the numbers of all rows are there; rows lie side by side.
template <class O, class A>
void map_down(const Typed<A>& t) {
  const Geometry& g = t.job.g;
  const int64_t wide = g.kept.sizes[g.kept.dims - 1], stretches = g.rows / wide;
  const int64_t tiles = (wide + kBlock - 1) / kBlock, tile = std::min<int64_t>(kBlock, wide);
  at::parallel_for(0, stretches * g.n * tiles, std::max<int64_t>(1, kGrain / tile), [&](int64_t begin, int64_t end) {
    const FloatMode mode;
    alignas(64) A scratch_x[kBlock], scratch_y[kBlock], scratch_out[kBlock];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t c = task % tiles * kBlock, i = task / tiles % g.n, row = task / tiles / g.n * wide + c;
      const int64_t k = std::min<int64_t>(kBlock, wide - c);
      const Walk base(g.kept, row), element(g.reduced, i);
      const Layout run = run_of(k);
      const Walk along(run, 0);
      const A* x = O::kX ? t.fetch(t.x(base.a + element.a), false, along, k, scratch_x) : nullptr;
      const A* y = O::kY ? t.fetch(t.y(base.b + element.b), true, along, k, scratch_y) : nullptr;
      void* to = t.out(base.a + element.a);
      map_across<O>(t, x, y, i, row, k, t.is_native ? static_cast<A*>(to) : scratch_out);
      if (!t.is_native) scatter(t.type, scratch_out, false, along, k, to);
    }
  });
}

template <class O, class A>
void map_all(const Typed<A>& t) {
  const Geometry& g = t.job.g;
  if (g.down()) return map_down<O>(t);
  const int64_t count = blocks_of(g.n), block = std::min<int64_t>(kBlock, g.n);
  at::parallel_for(0, g.rows * count, std::max<int64_t>(1, kGrain / block), [&](int64_t begin, int64_t end) {
    const FloatMode mode;
    const std::unique_ptr<Scratch<A>> scratch(new Scratch<A>);
    scratch->fill_constants(t, O::kE);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / count, from = task % count * kBlock, k = std::min<int64_t>(kBlock, g.n - from);
      V_<A> p[kParams];
#pragma GCC unroll 8
      for (int q = 0; q < kParams; ++q) {
        if (O::kP >> q & 1) p[q] = splat<V_<A>>(t.param(q, row));
      }
      const Walk base(g.kept, row);
      map_stretch<O>(t, *scratch, {base.a, base.b}, from, k, p);
    }
  });
}
