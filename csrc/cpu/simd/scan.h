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

// The same as scan_tile for a single strip: there is nothing to share out.
template <class A>
DETPROBE_FN A scan_strip(const A* from, int64_t k, A offset, A* to) {
  A p = static_cast<A>(-0.0);
  for (int64_t i = 0; i < k; ++i) {
    p = add(p, from[i]);
    if (to) to[i] = canonical(add(offset, p));
  }
  return p;
}

// A tile of k elements that lie side by side: its q, each increased by `offset`, which is -0.0 for none. Returns the
// last q, not increased. `from` is not read behind the k elements; `to` may be `from`, and null where only the last q
// is wanted.
//
// Vectors go across strips: W of them are turned, summed down, and turned back.
template <class A>
__attribute__((noinline)) A scan_tile(const A* from, int64_t k, A offset, A* to) {
  using V = V_<A>;
  constexpr int W = kWidth<A>, kGroup = W * kStrip;
  A e = static_cast<A>(-0.0);  // E of the strip before
  alignas(64) A room[kGroup];
  for (int64_t start = 0; start < k; start += kGroup) {
    const int64_t size = std::min<int64_t>(kGroup, k - start);
    const A* x = from + start;
    if (size < kGroup) {
      std::fill_n(std::copy_n(x, size, room), kGroup - size, A(0));
      x = room;
    }
    alignas(64) V p[kStrip];
    V sum;
#pragma GCC unroll 8
    for (int column = 0; column < kStrip; column += W) {
      V v[W];
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) v[j] = load_bits<V>(x + j * kStrip + column);
      transpose<W / 2>(v);
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) p[column + j] = sum = column + j == 0 ? v[j] : add(sum, v[j]);
    }
    V before;  // E of the strip before each lane's
#pragma GCC unroll 16
    for (int s = 0; s < W; ++s) {
      before[s] = e;
      e = add(e, sum[s]);
    }
    if (start + kGroup >= k) {
      const int64_t last = size - 1;
      e = add(before[last / kStrip], p[last % kStrip][last / kStrip]);
    }
    if (to == nullptr) continue;
    A* out = size < kGroup ? room : to + start;
    const V all = splat<V>(offset);
#pragma GCC unroll 8
    for (int column = 0; column < kStrip; column += W) {
      V v[W];
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) v[j] = add(all, add(before, p[column + j]));
      transpose<W / 2>(v);
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) store_bits(out + j * kStrip + column, canonical(v[j]));
    }
    if (size < kGroup) std::copy_n(room, size, to + start);
  }
  return e;
}

template <class A>
class Scan {
  using V = V_<A>;

 public:
  explicit Scan(const ScanJob& job)
      : job_(job),
        g_(job.g),
        size_(bytes_of(job.type)),
        in_place_(native(job.type) && !job.reverse && single_run(job.g.reduced, false) &&
                  single_run(job.g.reduced, true)) {}

  void run() const {
    if (g_.rows == 0 || g_.n == 0) return;
    if (g_.down()) return columns();
    const int64_t tiles = blocks_of(g_.n), threads = at::get_num_threads();
    if (g_.rows >= threads || g_.n < 4 * kGrain || threads == 1) {
      at::parallel_for(0, g_.rows, std::max<int64_t>(1, kGrain / g_.n), [&](int64_t begin, int64_t end) {
        const FloatMode mode;
        Walk row(g_.kept, begin);
        for (int64_t i = begin; i < end; ++i, row.go(1)) {
          if (tiles == 1) {
            tile(row, 0, g_.n, kNone, true);
          } else {
            whole_row(row);
          }
        }
      });
      return;
    }
    for (int64_t row = 0; row < g_.rows; ++row) split_row(Walk(g_.kept, row), tiles);
  }

 private:
  static constexpr A kNone = static_cast<A>(-0.0);  // added, it changes nothing

  // Where `count` elements that come as from, from + 1, .. in the order of the scan start in memory's order.
  int64_t start(int64_t from, int64_t count) const { return job_.reverse ? g_.n - from - count : from; }

  // The last q of the k elements from the `from`-th on; where `stores`, all of them increased by `offset` are stored.
  A tile(const Walk& row, int64_t from, int64_t k, A offset, bool stores) const {
    if (in_place_) {
      const A* source = static_cast<const A*>(x(row.a)) + from;
      A* to = stores ? static_cast<A*>(out(row.b)) + from : nullptr;
      return k <= kStrip ? scan_strip(source, k, offset, to) : scan_tile(source, k, offset, to);
    }
    alignas(64) A z[kBlock];
    gather(job_.type, x(row.a), false, Walk(g_.reduced, start(from, k)), k, z);
    if (job_.reverse) std::reverse(z, z + k);
    const A last = scan_tile(z, k, offset, stores ? z : nullptr);
    if (!stores) return last;
    if (job_.reverse) std::reverse(z, z + k);
    scatter(job_.type, z, true, Walk(g_.reduced, start(from, k)), k, out(row.b));
    return last;
  }

  // One thread, one reading.
  void whole_row(const Walk& row) const {
    Prefix<A> prefix;
    for (int64_t from = 0; from < g_.n; from += kBlock) {
      const int64_t k = std::min<int64_t>(kBlock, g_.n - from);
      const A last = tile(row, from, k, prefix.later() ? prefix.offset() : kNone, true);
      if (from + kBlock < g_.n) prefix.skip_tile(last);
    }
  }

  // All threads: the tiles' last elements, their scan, and the tiles again.
  void split_row(const Walk& row, int64_t tiles) const {
    std::vector<A> last(tiles);
    const auto each_tile = [&](const auto& f) {
      at::parallel_for(0, tiles, kGrain / kBlock, [&](int64_t begin, int64_t end) {
        const FloatMode mode;
        for (int64_t t = begin; t < end; ++t) f(t, t * kBlock, std::min<int64_t>(kBlock, g_.n - t * kBlock));
      });
    };
    each_tile([&](int64_t t, int64_t from, int64_t k) { last[t] = tile(row, from, k, kNone, false); });
    Prefix<A> prefix;
    for (A& value : last) value = prefix.push(value);
    each_tile([&](int64_t t, int64_t from, int64_t k) { tile(row, from, k, t > 0 ? last[t - 1] : kNone, true); });
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
  bool in_place_;  // rows are single runs of acc, in the order of the scan
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
