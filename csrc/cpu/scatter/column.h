// Sums of records into one column on one thread, which takes them as they come: none has to be picked.
//
// Computes, Order, Types, Domain, Error bound: index_add in csrc/README.md. Level: device_to_device.

// Returns how many records were added: fewer than there are where an index is out of range. A function of its own, and
// not inlined, so that all of it is in registers.
template <class A, bool Scaled, bool Near, bool Counted>
__attribute__((noinline)) int64_t add_column(const int64_t* index, int64_t records, uint64_t rows, const A* from,
                                             int64_t stride, A alpha, A* to, uint8_t* counts, Towers<A>* towers) {
  constexpr int64_t kAhead = 24;
  const auto add = [&](int64_t i) __attribute__((always_inline)) {
    const int64_t row = index[i];
    if (__builtin_expect(static_cast<uint64_t>(row) >= rows, 0)) return false;
    const A value = from[i * stride];
    to[row] += Scaled ? alpha * value : value;
    if (Counted && __builtin_expect(++counts[row] == 0, 0)) towers->close(static_cast<uint32_t>(row), to + row);
    return true;
  };
  int64_t i = 0;
  if (!Near) {
    for (; i < records - kAhead; ++i) {
      __builtin_prefetch(to + index[i + kAhead], 1);
      if (Counted) __builtin_prefetch(counts + index[i + kAhead], 1);
      if (!add(i)) return i;
    }
  }
  for (; i < records; ++i) {
    if (!add(i)) return i;
  }
  return i;
}

template <class A>
bool has_nan(const A* x, int64_t n) {
  using V = Vec<A, DETPROBE_BYTES>;
  constexpr int64_t kWidth = LaneOf<V>::kCount;
  Int<V> seen{};
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const V v = load_bits<V>(x + i);
    seen |= (v != v);
  }
  bool any = false;
  for (int64_t l = 0; l < kWidth; ++l) any |= seen[l] != 0;
  for (; i < n; ++i) any |= x[i] != x[i];
  return any;
}

template <class A, bool Scaled, bool Near>
void own_column(const OwnerJob& job, int64_t batch) {
  const FloatMode mode;
  const int64_t stride = job.source.row_stride;
  const A* from = static_cast<const A*>(job.source.data) + batch * job.source.batch_stride;
  const A alpha = static_cast<A>(job.alpha);
  A* to = static_cast<A*>(job.out) + batch * job.rows;
  std::vector<uint8_t> counts(job.counted ? job.rows : 0, 0);  // records of each row, modulo 256
  Towers<A> towers(1);
  const auto add = job.counted ? add_column<A, Scaled, Near, true> : add_column<A, Scaled, Near, false>;
  const int64_t added =
      add(job.index, job.records, static_cast<uint64_t>(job.rows), from, stride, alpha, to, counts.data(), &towers);
  if (added < job.records) {
    *job.bad = added;
    return;
  }
  towers.finish([&](uint32_t row) { return to + row; });
  if (!has_nan(to, job.rows)) return;
  // NaN become the canonical one, in the rows that had a record.
  for (int64_t i = 0; i < job.records; ++i) to[job.index[i]] = canonical(to[job.index[i]]);
}

template <class A>
void own_column(const OwnerJob& job, int64_t batch) {
  const bool near = job.rows <= 16384;  // rows that the nearest caches hold
  if (job.scaled) return near ? own_column<A, true, true>(job, batch) : own_column<A, true, false>(job, batch);
  return near ? own_column<A, false, true>(job, batch) : own_column<A, false, false>(job, batch);
}
