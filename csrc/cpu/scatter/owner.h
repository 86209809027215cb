// Sums of records into the rows that a thread owns, in source order and without a sort: each thread looks at all keys
// and picks its own. A counter of eight bits for each row tells when a chunk of 256 is full.
//
// Computes, Order, Types, Domain, Error bound: index_add in csrc/README.md. Level: device_to_device.

template <class A>
class Owner {
  using V = Vec<A, DETPROBE_BYTES>;
  using Half = Vec<A, 16>;
  static constexpr int64_t kWidth = LaneOf<V>::kCount, kHalf = LaneOf<Half>::kCount;
  static constexpr int64_t kAhead = 12;    // records that are fetched before they are added
  static constexpr int64_t kNear = 16384;  // rows of one column that the nearest caches hold
  static constexpr int64_t kRun = 64;      // records of one row that are worth another loop

 public:
  // Rows low .. high - 1, columns first .. first + width - 1 of one batch.
  Owner(const OwnerJob& job, int64_t batch, int64_t low, int64_t high, int64_t first, int64_t width)
      : job_(job),
        low_(low),
        rows_(high - low),
        width_(width),
        to_(static_cast<A*>(job.out) + (batch * job.rows + low) * job.columns + first),
        from_(static_cast<const A*>(job.source.data) + batch * job.source.batch_stride +
              first * job.source.column_stride),
        alpha_(static_cast<A>(job.alpha)),
        counts_(rows_, 0),
        towers_(width) {}

  void run() {
    const FloatMode mode;
    if (rows_ == 0 || width_ == 0) return;
    if (job_.scaled)
      by_width<true>();
    else
      by_width<false>();
    towers_.finish([&](uint32_t row) { return to_ + row * job_.columns; });
    if (any_nan_) settle();
  }

 private:
  template <bool Scaled>
  void by_width() {
    switch (width_) {
      case 1:
        if (rows_ <= kNear) return stretches([&](int64_t at, int64_t found) { singles<Scaled, true>(at, found); });
        return stretches([&](int64_t at, int64_t found) { singles<Scaled, false>(at, found); });
      case 8: return rows_of<Scaled, 8>();
      case 16: return rows_of<Scaled, 16>();
      case 32: return rows_of<Scaled, 32>();
      case 64: return rows_of<Scaled, 64>();
      default: return rows_of<Scaled, 0>();
    }
  }
  template <bool Scaled, int64_t Width>
  void rows_of() {
    stretches([&](int64_t at, int64_t found) { wide<Scaled, Width>(at, found); });
  }

  // f(first record, how many of the next kStretch are own).
  template <class F>
  DETPROBE_FN void stretches(const F& f) {
    for (int64_t at = 0; at < job_.records; at += kStretch) {
      const int64_t count = std::min(kStretch, job_.records - at);
      const int64_t found =
          pick(job_.keys + at, count, static_cast<uint32_t>(low_), static_cast<uint32_t>(rows_), row_, place_);
      for (int64_t i = found; i < found + kAhead; ++i) row_[i] = place_[i] = 0;
      if (is_one_row(found))
        job_.scaled ? one_row<true>(at, found) : one_row<false>(at, found);
      else
        f(at, found);
    }
  }

  DETPROBE_FN bool is_one_row(int64_t found) const {
    if (found < kRun || row_[0] != row_[found / 2] || row_[0] != row_[found - 1]) return false;
    uint32_t differ = 0;
    for (int64_t i = 0; i < found; ++i) differ |= row_[i] ^ row_[0];
    return differ == 0;
  }

  // A hot row: its sums stay in registers, where they do not wait for memory.
  template <bool Scaled>
  __attribute__((noinline)) void one_row(int64_t at, int64_t found) {
    const A* from = from_ + at * job_.source.row_stride;
    const uint32_t row = row_[0];
    A* to = to_ + row * job_.columns;
    for (int64_t i = 0; i < found;) {
      const int64_t past = std::min<int64_t>(found, i + kChunk - counts_[row]);
      int64_t c = 0;
      while (c + 8 * kWidth <= width_) c = run<Scaled, V, 8>(from, i, past, to, c);
      while (c + 2 * kWidth <= width_) c = run<Scaled, V, 2>(from, i, past, to, c);
      while (c + kWidth <= width_) c = run<Scaled, V, 1>(from, i, past, to, c);
      while (c + kHalf <= width_) c = run<Scaled, Half, 1>(from, i, past, to, c);
      while (c < width_) c = run<Scaled, A, 1>(from, i, past, to, c);
      counts_[row] = static_cast<uint8_t>(counts_[row] + (past - i));
      if (counts_[row] == 0) towers_.close(row, to);
      i = past;
    }
  }

  // Adds records begin .. end - 1 of a stretch to columns c ..; returns the column behind.
  template <bool Scaled, class W, int N>
  DETPROBE_FN int64_t run(const A* from, int64_t begin, int64_t end, A* to, int64_t c) {
    constexpr int64_t kLanes = LaneOf<W>::kCount;
    const int64_t stride = job_.source.row_stride;
    const W alpha = splat<W>(alpha_);
    W sum[N];
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) sum[k] = load_bits<W>(to + c + k * kLanes);
    for (int64_t i = begin; i < end; ++i) {
      const A* r = from + place_[i] * stride + c;
#pragma GCC unroll 8
      for (int k = 0; k < N; ++k) {
        const W value = load_bits<W>(r + k * kLanes);
        sum[k] += Scaled ? alpha * value : value;
      }
    }
    A lanes[N * kLanes];
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) {
      store_bits(to + c + k * kLanes, sum[k]);
      store_bits(lanes + k * kLanes, sum[k]);
    }
    for (const A one : lanes) any_nan_ |= one != one;
    return c + N * kLanes;
  }

  // One column. Where all rows fit the nearest cache, NaN are looked for at the end.
  template <bool Scaled, bool Near>
  DETPROBE_FN void singles(int64_t at, int64_t found) {
    const int64_t stride = job_.source.row_stride;
    const A* from = from_ + at * stride;
    uint8_t* counts = counts_.data();
    A seen = 0;
    for (int64_t i = 0; i < found; ++i) {
      const uint32_t row = row_[i];
      if (!Near) {
        __builtin_prefetch(to_ + row_[i + kAhead] * job_.columns, 1);
        __builtin_prefetch(counts + row_[i + kAhead], 1);
      }
      A* to = to_ + row * job_.columns;
      const A value = from[place_[i] * stride];
      const A sum = *to + (Scaled ? alpha_ * value : value);
      *to = sum;
      if (!Near) seen = sum == sum ? seen : sum;
      if (__builtin_expect(++counts[row] == 0, 0)) towers_.close(row, to);
    }
    any_nan_ |= Near || seen != seen;
  }

  template <bool Scaled, int64_t Width>
  DETPROBE_FN void wide(int64_t at, int64_t found) {
    const int64_t width = Width ? Width : width_, stride = job_.source.row_stride, step = job_.columns;
    const A* from = from_ + at * stride;
    const int64_t lines = std::min<int64_t>(width * static_cast<int64_t>(sizeof(A)), 512);
    Int<V> seen{};
    Int<Half> seen_half{};
    bool seen_one = false;
    for (int64_t i = 0; i < found; ++i) {
      const A* next_from = from + place_[i + kAhead] * stride;
      A* next_to = to_ + row_[i + kAhead] * step;
      for (int64_t b = 0; b < lines; b += 64) {
        __builtin_prefetch(reinterpret_cast<const char*>(next_from) + b);
        __builtin_prefetch(reinterpret_cast<const char*>(next_to) + b, 1);
      }
      const uint32_t row = row_[i];
      const A* r = from + place_[i] * stride;
      A* to = to_ + row * step;
      int64_t c = 0;
      for (; c + kWidth <= width; c += kWidth) {
        const V value = load_bits<V>(r + c);
        const V sum = load_bits<V>(to + c) + (Scaled ? splat<V>(alpha_) * value : value);
        store_bits(to + c, sum);
        seen |= (sum != sum);
      }
      if (kHalf < kWidth && c + kHalf <= width) {
        const Half value = load_bits<Half>(r + c);
        const Half sum = load_bits<Half>(to + c) + (Scaled ? splat<Half>(alpha_) * value : value);
        store_bits(to + c, sum);
        seen_half |= (sum != sum);
        c += kHalf;
      }
      for (; c < width; ++c) {
        const A sum = to[c] + (Scaled ? alpha_ * r[c] : r[c]);
        to[c] = sum;
        seen_one |= sum != sum;
      }
      if (__builtin_expect(++counts_[row] == 0, 0)) towers_.close(row, to);
    }
    for (int64_t l = 0; l < kWidth; ++l) seen_one |= seen[l] != 0;
    for (int64_t l = 0; l < kHalf; ++l) seen_one |= seen_half[l] != 0;
    any_nan_ |= seen_one;
  }

  // NaN become the canonical one, in the rows that had a record.
  void settle() {
    for (int64_t row = 0; row < rows_; ++row) {
      if (counts_[row] == 0 && !towers_.has(static_cast<uint32_t>(row))) continue;
      A* to = to_ + row * job_.columns;
      for (int64_t c = 0; c < width_; ++c) to[c] = canonical(to[c]);
    }
  }

  const OwnerJob& job_;
  int64_t low_, rows_, width_;
  A* to_;
  const A* from_;
  A alpha_;
  std::vector<uint8_t> counts_;  // records of each row, modulo 256
  Towers<A> towers_;
  bool any_nan_ = false;
  uint32_t row_[kStretch + 16], place_[kStretch + 16];
};

template <class A>
void own_typed(const OwnerJob& job) {
  if (job.index) {
    at::parallel_for(0, job.batch, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) own_column<A>(job, b);
    });
    return;
  }
  const int64_t parts = threads_for(job.records * job.columns * job.batch);
  if (job.batch >= 2 * parts || parts == 1) {
    at::parallel_for(0, job.batch, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) Owner<A>(job, b, 0, job.rows, 0, job.columns).run();
    });
    return;
  }
  bool is_hot;
  const std::vector<int64_t> bounds = ranges_by_keys(job.keys, job.records, job.rows, parts, is_hot);
  const bool by_columns = is_hot && job.columns >= 16 * parts;
  at::parallel_for(0, job.batch * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / parts, k = task % parts;
      if (by_columns) {
        const int64_t first = job.columns * k / parts / 16 * 16;
        const int64_t past = k + 1 == parts ? job.columns : job.columns * (k + 1) / parts / 16 * 16;
        Owner<A>(job, b, 0, job.rows, first, past - first).run();
      } else {
        Owner<A>(job, b, bounds[k], bounds[k + 1], 0, job.columns).run();
      }
    }
  });
}

const char* own(const OwnerJob& job) {
  if (job.type == Type::f32)
    own_typed<float>(job);
  else if (job.type == Type::f64)
    own_typed<double>(job);
  else
    return "only float32 and float64 are summed without a sort";
  return nullptr;
}
