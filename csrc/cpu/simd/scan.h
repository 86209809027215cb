// DSCAN-1 in vectors: across the strips of a tile where a row lies side by side, across rows where those do. Included
// once per instruction set.

// G, fed one element after the other: what it returns for element i needs nothing that comes later. `Level + 1` is the
// scan of the tiles' last elements.
template <class V>
class Prefix {
 public:
  V push(V z) {
    p_ = i_ % kStrip == 0 ? z : add(p_, z);
    const V q = i_ % kBlock < kStrip ? p_ : add(e_, p_);
    const V out = i_ < kBlock ? q : add(v_, q);
    if (i_ % kStrip == kStrip - 1) e_ = i_ % kBlock < kStrip ? p_ : add(e_, p_);
    if (i_ % kBlock == kBlock - 1) close_tile(q);
    ++i_;
    return out;
  }
  // For a tile that was summed elsewhere: what its elements are increased by, if there is a tile before it.
  bool later() const { return i_ > 0; }
  V offset() const { return v_; }
  void close_tile(V last) {
    if (!upper_) upper_.reset(new Prefix);
    v_ = upper_->push(last);
  }
  void skip_tile(V last) {
    close_tile(last);
    i_ += kBlock;
  }

 private:
  int64_t i_ = 0;
  V p_{}, e_{}, v_{};
  std::unique_ptr<Prefix> upper_;
};

// Adds a number to k elements, in place.
template <class A>
DETPROBE_FN void raise(A offset, int64_t k, A* z) {
  const V_<A> all = splat<V_<A>>(offset);
  int64_t i = 0;
  for (; i + kWidth<A> <= k; i += kWidth<A>) store_bits(z + i, add(all, load_bits<V_<A>>(z + i)));
  for (; i < k; ++i) z[i] = add(offset, z[i]);
}

// The q of one tile of k elements, in place.
template <class A>
void scan_tile(A* z, int64_t k) {
  using V = V_<A>;
  constexpr int W = kWidth<A>;
  const int64_t whole = k / kStrip;
  int64_t s = 0;
  for (; s + W <= whole; s += W) {
    V sum{};
    for (int column = 0; column < kStrip; column += W) {
      V v[W];
      A* at = z + s * kStrip + column;
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) v[j] = load_bits<V>(at + j * kStrip);
      transpose<W / 2>(v);
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) sum = v[j] = column + j == 0 ? v[j] : add(sum, v[j]);
      transpose<W / 2>(v);
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) store_bits(at + j * kStrip, v[j]);
    }
  }
  for (int64_t i = s * kStrip; i < k; ++i) {
    if (i % kStrip) z[i] = add(z[i - 1], z[i]);
  }
  if (k <= kStrip) return;
  A e = z[kStrip - 1];
  for (s = 1; s * kStrip < k; ++s) {
    A* at = z + s * kStrip;
    const int64_t size = std::min<int64_t>(kStrip, k - s * kStrip);
    const A next = add(e, at[size - 1]);
    raise(e, size, at);
    e = next;
  }
}

template <class A>
class Scan {
  using V = V_<A>;

 public:
  explicit Scan(const ScanJob& job) : job_(job), g_(job.g), size_(bytes_of(job.type)) {}

  void run() const {
    if (g_.rows == 0 || g_.n == 0) return;
    if (g_.down()) return columns();
    const int64_t tiles = blocks_of(g_.n), threads = at::get_num_threads();
    if (g_.rows >= threads || g_.n < 4 * kGrain || threads == 1) {
      at::parallel_for(0, g_.rows, std::max<int64_t>(1, kGrain / g_.n), [&](int64_t begin, int64_t end) {
        const FloatMode mode;
        for (int64_t row = begin; row < end; ++row) whole_row(Walk(g_.kept, row));
      });
      return;
    }
    for (int64_t row = 0; row < g_.rows; ++row) split_row(Walk(g_.kept, row), tiles);
  }

 private:
  // Where `count` elements that come as from, from + 1, .. in the order of the scan start in memory's order.
  int64_t start(int64_t from, int64_t count) const { return job_.reverse ? g_.n - from - count : from; }

  void fetch_tile(const Walk& row, int64_t from, int64_t k, A* z) const {
    gather(job_.type, x(row.a), false, Walk(g_.reduced, start(from, k)), k, z);
    if (job_.reverse) std::reverse(z, z + k);
  }
  void store_tile(const Walk& row, int64_t from, int64_t k, A* z) const {
    if (job_.reverse) std::reverse(z, z + k);
    scatter(job_.type, z, true, Walk(g_.reduced, start(from, k)), k, out(row.b));
  }

  // One thread, one reading.
  void whole_row(const Walk& row) const {
    A z[kBlock];
    Prefix<A> prefix;
    for (int64_t from = 0; from < g_.n; from += kBlock) {
      const int64_t k = std::min<int64_t>(kBlock, g_.n - from);
      fetch_tile(row, from, k, z);
      scan_tile(z, k);
      const A last = z[k - 1];
      if (prefix.later()) raise(prefix.offset(), k, z);
      store_tile(row, from, k, z);
      if (from + kBlock < g_.n) prefix.skip_tile(last);
    }
  }

  // All threads: the tiles' last elements, their scan, and the tiles again.
  void split_row(const Walk& row, int64_t tiles) const {
    std::vector<A> last(tiles);
    const auto each_tile = [&](const auto& f) {
      at::parallel_for(0, tiles, kGrain / kBlock, [&](int64_t begin, int64_t end) {
        const FloatMode mode;
        A z[kBlock];
        for (int64_t t = begin; t < end; ++t) {
          const int64_t from = t * kBlock, k = std::min<int64_t>(kBlock, g_.n - from);
          fetch_tile(row, from, k, z);
          scan_tile(z, k);
          f(t, from, k, z);
        }
      });
    };
    each_tile([&](int64_t t, int64_t, int64_t k, const A* z) { last[t] = z[k - 1]; });
    Prefix<A> prefix;
    for (A& value : last) value = prefix.push(value);
    each_tile([&](int64_t t, int64_t from, int64_t k, A* z) {
      if (t > 0) raise(last[t - 1], k, z);
      store_tile(row, from, k, z);
    });
  }

  void columns() const {
    const int64_t wide = g_.kept.sizes[g_.kept.dims - 1], stretches = g_.rows / wide;
    constexpr int64_t kTile = 8 * kWidth<A>;
    const int64_t tiles = (wide + kTile - 1) / kTile;
    at::parallel_for(0, stretches * tiles, std::max<int64_t>(1, kGrain / (g_.n * kTile)),
                     [&](int64_t begin, int64_t end) {
                       const FloatMode mode;
                       for (int64_t task = begin; task < end; ++task) {
                         const int64_t c = task % tiles * kTile, width = std::min(kTile, wide - c);
                         const Walk base(g_.kept, task / tiles * wide + c);
                         Prefix<V> prefix[kTile / kWidth<A>];
                         A z[kTile] = {};
                         const Layout run = run_of(width);
                         const Walk along(run, 0);
                         for (int64_t i = 0; i < g_.n; ++i) {
                           const Walk element(g_.reduced, start(i, 1));
                           gather(job_.type, x(base.a + element.a), false, along, width, z);
                           for (int64_t j = 0; j * kWidth<A> < width; ++j) {
                             store_bits(z + j * kWidth<A>, prefix[j].push(load_bits<V>(z + j * kWidth<A>)));
                           }
                           scatter(job_.type, z, true, along, width, out(base.b + element.b));
                         }
                       }
                     });
  }

  const void* x(int64_t at) const { return static_cast<const char*>(job_.x) + at * size_; }
  void* out(int64_t at) const { return static_cast<char*>(job_.out) + at * size_; }

  const ScanJob& job_;
  const Geometry& g_;
  int64_t size_;
};

const char* scan(const ScanJob& job) {
  const FloatMode mode;
  switch (job.type) {
    case Type::f16:
    case Type::bf16:
    case Type::f32: Scan<float>(job).run(); break;
    case Type::f64: Scan<double>(job).run(); break;
    default: Scan<uint64_t>(job).run(); break;
  }
  return nullptr;
}
