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
      f(at, found);
    }
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

// One column on one thread: no record has to be picked.
template <class A, bool Scaled, bool Near, bool Counted>
void own_alone(const OwnerJob& job, int64_t batch) {
  const FloatMode mode;
  constexpr int64_t kAhead = 24;
  // In registers: a store to a counter may change whatever memory holds, for all the compiler knows.
  const int64_t stride = job.source.row_stride, records = job.records, last = std::max<int64_t>(0, records - kAhead);
  const int64_t* index = job.index;
  const A* from = static_cast<const A*>(job.source.data) + batch * job.source.batch_stride;
  const A alpha = static_cast<A>(job.alpha);
  A* to = static_cast<A*>(job.out) + batch * job.rows;
  std::vector<uint8_t> room(Counted ? job.rows : 0, 0);
  uint8_t* counts = room.data();
  Towers<A> towers(1);
  const uint64_t rows = static_cast<uint64_t>(job.rows);
  const auto add = [&](int64_t i) __attribute__((always_inline)) {
    const int64_t row = index[i];
    if (__builtin_expect(static_cast<uint64_t>(row) >= rows, 0)) return false;
    const A value = from[i * stride];
    to[row] += Scaled ? alpha * value : value;
    if (Counted && __builtin_expect(++counts[row] == 0, 0)) towers.close(static_cast<uint32_t>(row), to + row);
    return true;
  };
  int64_t i = 0;
  bool fits = true;
  if (!Near) {
    for (; i < last && fits; i += fits) {
      __builtin_prefetch(to + index[i + kAhead], 1);
      if (Counted) __builtin_prefetch(counts + index[i + kAhead], 1);
      fits = add(i);
    }
  }
  for (; i < records && fits; i += fits) fits = add(i);
  if (!fits) {
    *job.bad = i;
    return;
  }
  towers.finish([&](uint32_t row) { return to + row; });
  bool any_nan = false;
  for (int64_t row = 0; row < job.rows; ++row) {
    if (to[row] == to[row]) continue;
    any_nan = true;
    // A row of closed chunks alone is settled already.
    if (Counted && counts[row] != 0) to[row] = canonical(to[row]);
  }
  if (Counted || !any_nan) return;
  for (i = 0; i < records; ++i) to[index[i]] = canonical(to[index[i]]);
}

template <class A, bool Scaled, bool Near>
void own_column(const OwnerJob& job, int64_t batch) {
  return job.counted ? own_alone<A, Scaled, Near, true>(job, batch) : own_alone<A, Scaled, Near, false>(job, batch);
}
template <class A>
void own_column(const OwnerJob& job, int64_t batch) {
  const bool near = job.rows <= 16384;
  if (job.scaled) return near ? own_column<A, true, true>(job, batch) : own_column<A, true, false>(job, batch);
  return near ? own_column<A, false, true>(job, batch) : own_column<A, false, false>(job, batch);
}

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
