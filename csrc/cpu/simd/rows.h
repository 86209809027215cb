// Runs a job: the passes of an op over all rows, what follows from them, and the map. Included once per instruction
// set.
//
// Three ways, and the bits are the same: a row after the other on one thread, while it is in the cache (`fused`); pass
// by pass over everything, blocks shared out over threads (`block_pass`); and that for rows that lie side by side, with
// vectors across them (`column_pass`).

template <class O, class A>
class Driver {
  using V = V_<A>;
  static constexpr int W = kWidth<A>;
  static constexpr int kPasses = O::Passes::kSize;
  template <int K>
  using Pass = typename O::Passes::template At<K>;

  template <int... K>
  static constexpr int vectors(std::integer_sequence<int, K...>) {
    return (0 | ... | Pass<K>::kE) | O::kE;
  }
  using AllPasses = std::make_integer_sequence<int, kPasses>;
  template <int... K>
  static constexpr bool shifted(std::integer_sequence<int, K...>) {
    return ((std::is_same_v<Pass<K>, ExpShifted> || std::is_same_v<Pass<K>, ExpOver>) || ...);
  }
  static constexpr bool kExp = shifted(AllPasses{});  // as much work as many sums

 public:
  explicit Driver(const Job& job) : t_(job), g_(job.g), count_(blocks_of(job.g.n)) {}

  void run() {
    if (g_.rows == 0) return;
    if (g_.n == 0) return fused_all();  // numbers are wanted of empty rows, too
    const bool small = g_.rows * g_.n < 2 * kGrain, many = g_.rows >= 4 * at::get_num_threads();
    Across across;
    if (!g_.down() && (small || (many && !lies_across(t_, across)))) return fused_all();
    store_numbers();
    all_passes(AllPasses{});
    if constexpr (O::kMap) {
      map_all<O>(t_);
    } else {
      store_results();
    }
  }

 private:
  A* wanted(int q) const { return static_cast<A*>(t_.job.p_out[q]); }
  void put_result(int64_t row, A value) const {
    if constexpr (std::is_same_v<A, uint64_t>) {
      static_cast<uint64_t*>(t_.job.out)[row] = value;
    } else {
      with_type<A>(t_.type, [&](auto* tag) {
        using T = std::remove_pointer_t<decltype(tag)>;
        static_cast<T*>(t_.job.out)[row] = narrow<T>(value);
      });
    }
  }
  DETPROBE_FN void put_results(int64_t row, int64_t count, V values) const {
    if (!t_.is_native) {
      for (int64_t j = 0; j < count; ++j) put_result(row + j, values[j]);
      return;
    }
    store_some(static_cast<A*>(t_.job.out) + row, canonical(values), count);
  }

  // ---- one row after the other

  // What one thread has while it works.
  struct Worker {
    ScratchGroup<A> scratch;
    std::vector<A> partials, kept;
    Place at[W];   // of the rows at hand
    int64_t live;  // how many these are
    V p[kParams];  // their numbers, a lane for each
  };

  void fused_all() {
    constexpr int64_t kWorth = kExp ? kGrain / 8 : kGrain;
    const int64_t grain = std::max<int64_t>(W, kWorth / std::max<int64_t>(g_.n, 16));
    at::parallel_for(0, g_.rows, grain, [&](int64_t begin, int64_t end) {
      const FloatMode mode;
      Worker w{ScratchGroup<A>(t_, vectors(AllPasses{}), !t_.flat_x || (t_.job.y && !t_.flat_y)), {}, {}, {}, 0, {}};
      if (count_ > kBlock) w.partials.resize(count_);
      const int64_t step = count_ <= 1 ? W : 1;
      if (O::kKeep && !(t_.is_native && g_.inner())) w.kept.resize(step * g_.n);
      Walk walk(g_.kept, begin);
      const int32_t last = g_.kept.dims - 1;
      const int64_t apart_a = last < 0 ? 0 : g_.kept.a[last], apart_b = last < 0 ? 0 : g_.kept.b[last];
      for (int64_t row = begin; row < end; row += w.live) {
        w.live = std::min({step, end - row, walk.left()});
        for (int64_t j = 0; j < w.live; ++j) w.at[j] = {walk.a + j * apart_a, walk.b + j * apart_b};
        walk.go(w.live);
        fused_rows(w, row);
      }
    });
  }

  void fused_rows(Worker& w, int64_t row) {
#pragma GCC unroll 8
    for (int q = 0; q < kParams; ++q) {
      if (!(O::kIn >> q & 1)) continue;
      w.p[q] = splat<V>(t_.p_constant[q]);
      for (int64_t j = 0; t_.p[q] && j < w.live; ++j) w.p[q][j] = t_.p[q][row + j];
    }
    for (int64_t j = 0; j < w.live; ++j) w.scratch[j].has_x = w.scratch[j].has_y = false;
    fused_passes(w, AllPasses{});
#pragma GCC unroll 8
    for (int q = 0; q < kParams; ++q) {
      if (!(O::kOut >> q & 1) || !wanted(q)) continue;
      for (int64_t j = 0; j < w.live; ++j) wanted(q)[row + j] = canonical(w.p[q][j]);
    }
    if constexpr (O::kMap) {
      for (int64_t j = 0; j < w.live; ++j) fused_map(w, j);
    } else if (t_.job.out) {
      put_results(row, w.live, w.p[O::kResult]);
    }
  }

  // Passes that need nothing of each other are one reading.
  template <int... K>
  void fused_passes(Worker& w, std::integer_sequence<int, K...>) {
    if constexpr (O::kTogether) {
      if (count_ == 1) return fused_pass<K...>(w, List<Pass<K>...>());
    }
    (fused_pass<K>(w, List<Pass<K>>()), ...);
  }

  template <int... K, class... S>
  void fused_pass(Worker& w, List<S...> steps) {
    V sums[] = {splat<V>(S::Combine::template empty<A>())...};
    if (g_.n > 0 && count_ == 1) fused_blocks(steps, w, 0, w.live, 0, 0, g_.n, w.p, sums);
    if constexpr (sizeof...(S) == 1) {
      if (count_ > 1) sums[0] = splat<V>(long_row(steps, w));
    }
    const V n = splat<V>(t_.n);
    int which = 0;
    (O::template finish<K>(sums[which++], n, w.p), ...);
  }

  // Folds `count` stretches of k elements: of as many rows, or of as many blocks of one (`apart` elements). Where the
  // op keeps its terms, they are stored.
  template <class... S>
  DETPROBE_FN void fused_blocks(List<S...> steps, Worker& w, int64_t row, int64_t count, int64_t from, int64_t apart,
                                int64_t k, const V* p, V* out) {
    if (folds_flat(steps, t_)) {
      const int64_t step = apart ? apart * t_.every : (count > 1 ? w.at[row + 1].a - w.at[row].a : 0);
      if (apart || count <= 1 || w.at[row + count - 1].a - w.at[row].a == (count - 1) * step) {
        return fold_flat(steps, t_, w.at[row].a + from * t_.every, step, count, k, out);
      }
    }
    Stretch<A> r[W];
    A* terms[W];
    for (int64_t j = 0; j < count; ++j) {
      const int64_t mine = apart ? row : row + j, start = from + j * apart;
      r[j] = w.scratch[j].stretch(t_, (S::kX || ...), (S::kY || ...), w.at[mine], start, k);
      w.scratch[j].keep((S::kX || ...) && count_ == 1, (S::kY || ...) && count_ == 1);
      if (O::kKeep) terms[j] = kept(w, mine, start);
    }
    if constexpr (O::kKeep && (std::is_same_v<S, ExpShifted> && ...)) {
      out[0] = fold_kept_exp<A>(r, terms, count, k, p);
    } else {
      fold_stretches<A>(steps, r, count, k, p, out);
    }
  }
  // Terms lie where the result will, if that is in acc.
  A* kept(Worker& w, int64_t j, int64_t from) const {
    return w.kept.empty() ? static_cast<A*>(t_.job.out) + w.at[j].a + from : w.kept.data() + j * g_.n + from;
  }

  template <class S>
  A long_row(List<S> step, Worker& w) {
    A few[kBlock];
    A* y = w.partials.empty() ? few : w.partials.data();
    V p[kParams];
    numbers_of_row<S::kP>(w.p, 0, p);
    for_blocks(0, count_, g_.n, w.scratch.copies() && !folds_flat(step, t_) ? 1 : W,
               [&](int64_t b, int64_t some, int64_t k) {
                 V folded;
                 fused_blocks(step, w, 0, some, b * kBlock, kBlock, k, p, &folded);
                 store_some(y + b, folded, some);
               });
    return sum_partials<typename S::Combine>(y, count_);
  }

  void fused_map(Worker& w, int64_t j) {
    V p[kParams];
    numbers_of_row<O::kP>(w.p, j, p);
    for (int64_t from = 0; from < g_.n; from += kBlock) {
      const int64_t k = std::min<int64_t>(kBlock, g_.n - from);
      if constexpr (O::kKeep) {
        A* terms = kept(w, j, from);
        map_along<MapKept>(Stretch<A>{terms, nullptr, {}}, k, p, terms);
        if (!w.kept.empty()) scatter(t_.type, terms, false, Walk(g_.reduced, from), k, t_.out(w.at[j].a));
      } else {
        map_stretch<O>(t_, w.scratch[count_ == 1 ? j : 0], w.at[j], from, k, p);
      }
    }
  }
  struct MapKept {
    static constexpr bool kX = true, kY = false;
    static constexpr int kE = 0, kP = O::kP;
    static DETPROBE_FN V map(V x, V, const V*, const V* p) { return O::map_kept(x, p); }
  };

  // ---- pass by pass

  // Room for the numbers that passes leave: where they are wanted, where the result is, or of our own.
  void store_numbers() {
#pragma GCC unroll 8
    for (int q = 0; q < kParams; ++q) {
      if (!(O::kOut >> q & 1)) continue;
      numbers_[q] = wanted(q);
      if (!O::kMap && t_.is_native && q == O::kResult && !numbers_[q]) numbers_[q] = static_cast<A*>(t_.job.out);
      if (!numbers_[q]) {
        room_[q].resize(g_.rows);
        numbers_[q] = room_[q].data();
      }
    }
  }

  template <int... K>
  void all_passes(std::integer_sequence<int, K...>) {
    if constexpr (O::kTogether) {
      whole_pass<K...>(List<Pass<K>...>());
    } else {
      (whole_pass<K>(List<Pass<K>>()), ...);
    }
  }

  template <int... K, class... S>
  void whole_pass(List<S...> steps) {
    constexpr int kSteps = sizeof...(S);
    const int64_t count = std::max<int64_t>(count_, 1);
    const std::unique_ptr<A[]> room(new A[g_.rows * count * kSteps]);
    A* const sums[] = {room.get(), room.get() + g_.rows * count * (kSteps - 1)};
    if (g_.n == 0) {
      int which = 0;
      (std::fill_n(sums[which++], g_.rows, S::Combine::template empty<A>()), ...);
    } else if (g_.down()) {
      column_pass(steps, t_, sums);
    } else if (Across how; !(S::kY || ...) && lies_across(t_, how)) {
      Job columns;
      if (((S::kE == 0 && S::kP == 0) && ...) && in_columns(t_, how, columns)) {
        column_pass(steps, Typed<A>(columns), sums);
      } else {
        panel_pass(steps, t_, how, sums);
      }
    } else {
      block_pass(steps, t_, sums);
    }
    at::parallel_for(0, g_.rows, std::max<int64_t>(1, kGrain / count), [&](int64_t begin, int64_t end) {
      const FloatMode mode;
      for (int64_t row = begin; row < end; ++row) {
        A p[kParams];
#pragma GCC unroll 8
        for (int q = 0; q < kParams; ++q) {
          if ((O::kIn | O::kOut) >> q & 1) p[q] = O::kOut >> q & 1 ? numbers_[q][row] : t_.param(q, row);
        }
        int which = 0;
        ((O::template finish<K>(total<typename S::Combine>(sums[which] + row * count, count), t_.n, p), ++which), ...);
#pragma GCC unroll 8
        for (int q = 0; q < kParams; ++q) {
          if (O::kOut >> q & 1) numbers_[q][row] = canonical(p[q]);
        }
      }
    });
#pragma GCC unroll 8
    for (int q = 0; q < kParams; ++q) {
      if (O::kOut >> q & 1) t_.p[q] = numbers_[q];
    }
  }
  template <class C>
  static A total(A* partials, int64_t count) {
    return count > 1 ? sum_partials<C>(partials, count) : partials[0];
  }

  void store_results() {
    if (!t_.job.out || static_cast<void*>(numbers_[O::kResult]) == t_.job.out) return;
    for (int64_t row = 0; row < g_.rows; ++row) put_result(row, numbers_[O::kResult][row]);
  }

  Typed<A> t_;
  const Geometry& g_;
  int64_t count_;
  A* numbers_[kParams] = {};
  std::vector<A> room_[kParams];
};
